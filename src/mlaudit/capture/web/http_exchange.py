"""One request and its answer, whatever the server: what ASGI, WSGI and gRPC have in common."""

from __future__ import annotations

import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar, Final

from opentelemetry import trace

from mlaudit.capture.request_context import RequestTrail
from mlaudit.capture.tracing import mark_span, trace_ids
from mlaudit.capture.web import access_change, authentication
from mlaudit.capture.web.http_actor import ANONYMOUS, find_actor
from mlaudit.capture.web.http_body import Body
from mlaudit.capture.web.http_record import (
    Answer,
    add_change_control,
    add_config_change,
    add_contents,
    event_of,
    kind_of,
    target_of,
)
from mlaudit.catalog.names import ACCESS_ROLE_CHANGED, API_REQUEST, ML_CONFIG_CHANGED, ML_PREDICTION
from mlaudit.errors import AuditRefusedError

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from mlaudit.event import AuditEvent
    from mlaudit.pipeline.pipeline import Pipeline
    from mlaudit.policy.evaluate import Decision

ERROR: Final = "mlaudit.error"
"""Where the scope holds the class of an exception that a framework's integration saw; recorded if it became a 5xx."""

NO_BODY: Final = frozenset({204, 304})
_BODY_NEEDED: Final = frozenset({ML_CONFIG_CHANGED, ACCESS_ROLE_CHANGED})
_INPUTS: Final = 2
_FULL: Final = 3


class HttpExchange(Answer):
    """One request and its response, recorded while they are transferred.

    ``recorded`` is true once the record was made, or its making was tried; ``refused`` is then why an answer that
    had begun was broken off; ``component`` names the layer in records of its faults.
    """

    component: ClassVar[str] = "http"
    recorded = False
    refused = ""
    _begun = False
    _expected = -1
    _unheard = False
    _span: trace.Span = trace.INVALID_SPAN

    def __init__(
        self,
        pipeline: Pipeline,
        mapped: str | None,
        scope: MutableMapping[str, Any],
        headers: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """Takes the request.

        Args:
            pipeline: what records it.
            mapped: the kind that the policy gives its path, None when it gives none.
            scope: the request in the form of an ASGI scope.
            headers: of the request, with lower-case names.
        """
        self._started = perf_counter_ns()
        self._pipeline = pipeline
        self._mapped = mapped
        self.scope = scope
        # The first of several values wins, as in frameworks: a second Authorization must not change the actor.
        self.headers = dict(reversed(headers if type(headers) is list else list(headers)))
        self.trail = RequestTrail()

    def route(self) -> str:
        """The template of the route that the request took, "" when nothing matched."""
        raise NotImplementedError

    def complete(self, event: AuditEvent) -> None:
        """Adds the fields of this protocol to the event."""

    def add_request(self, chunk: bytes) -> None:
        """Adds a piece of the request body; never raises."""
        if self._unheard:
            return
        try:
            body = self.request
            if body is None:
                wanted = self._pipeline.policy.max_level >= _INPUTS or self._mapped in _BODY_NEEDED
                body = self.request = Body(self._pipeline.settings.body_limit if wanted else 0)
            body.add(chunk)
        except Exception as error:  # noqa: BLE001 - contained
            self.request = None
            self._unheard = True  # the digest of the rest would match no body
            self._pipeline.fault(self.component, error)

    def add_response(self, chunk: bytes) -> bool:
        """Adds a piece of the response; returns whether the response is complete with it. Never raises."""
        try:
            body = self.response
            if body is None:
                body = self.response = Body(
                    self._pipeline.settings.body_limit if self._pipeline.policy.max_level >= _FULL else 0
                )
            body.add(chunk)
            return body.size >= self._expected >= 0
        except Exception as error:  # noqa: BLE001 - contained
            self.response = None
            self._pipeline.fault(self.component, error)
            return False

    def end(self, outcome: str, error: str, reason: str) -> None:
        """Records an exchange without a complete answer to hold back; never raises."""
        try:
            if not self._span.get_span_context().is_valid:
                self._span = trace.get_current_span()
            self.emit(outcome, error, reason)
        except AuditRefusedError:
            return  # counted by the pipeline

    def emit(self, outcome: str, error: str, reason: str) -> list[tuple[Any, Decision]] | None:
        """Makes the record, and an additional one where needed; None when there is none to wait for.

        Raises:
            AuditRefusedError: it could not be stored, and the policy says refuse. Nothing else.
        """
        self.recorded = self.trail.closed = True
        try:
            described = self._describe(outcome, error, reason)
        except Exception as fault:  # noqa: BLE001 - contained: a record without what could not be determined
            fields = {"http.request.method": self.scope["method"], "http.response.status_code": self.status}
            self._pipeline.fault(
                self.component, fault, kind=self._mapped or API_REQUEST, fields=fields, outcome=outcome
            )
            return None
        if described is None:
            return None
        event, decision, beside = described
        emitted = []
        if beside is not None:
            other = self._pipeline.decide(
                beside.kind, route=event.fields.get("http.route", ""), actor=(beside.actor or ANONYMOUS).id
            )
            emitted.append((self._pipeline.emit(beside, other, wait=False), other))
        emitted.append((self._pipeline.emit(event, decision, wait=False), decision))
        try:
            if self._span.is_recording():
                mark_span(self._span, event, decision)
        except Exception as fault:  # noqa: BLE001 - contained
            self._pipeline.fault(self.component, fault)
        return emitted

    def _describe(
        self, outcome: str, error: str, reason: str
    ) -> tuple[AuditEvent, Decision, AuditEvent | None] | None:
        pipeline, scope, trail = self._pipeline, self.scope, self.trail
        route = trail.route = self.route()
        mapped = self._mapped
        if mapped is None and ("{" in route or "<" in route):
            mapped = pipeline.policy.route_kind(scope["method"], route)
            if mapped == "":
                return None
        kind = kind_of(mapped, trail, self.status)
        if trail.failures:
            kind = authentication.kind_of(kind, trail, self.status)
        trail.kind = kind
        header, pseudonym = self.headers.get, pipeline.policy.pseudonyms.of
        authorization, key = header(b"authorization"), header(b"x-api-key")
        credential = None
        if authorization or key or trail.credentials:
            credential = authentication.of_request(trail, authorization, key, pseudonym)
        actor = find_actor(scope, self.headers, trail, pipeline.settings.actor_header, pseudonym, credential)
        models = trail.models
        name, path_name, version = models[-1].name if models else "", "", ""
        if mapped == ML_PREDICTION and not (models and models[-1].is_known()):
            path_name, version = self.model()
            name = path_name or name
        decision = pipeline.decide(
            kind, route=route or scope["path"], model=name, actor="" if actor is ANONYMOUS else actor.id
        )
        if decision.level == 0:
            return None
        self.duration = perf_counter_ns() - self._started
        self.outcome, self.error, self.reason = outcome, error, reason
        event = event_of(kind, mapped, self, trail, actor)
        if path_name:
            event.fields["ml.model.name"] = path_name
            if version:
                event.fields["ml.model.version"] = version
            if kind == ML_PREDICTION:
                event.target = target_of(path_name, version)
        event.trace_id, event.span_id = trace_ids(self._span, self.headers)
        if kind == ML_CONFIG_CHANGED:
            add_config_change(event, self, pipeline.policy.change)
        elif kind in access_change.KINDS:
            add_change_control(event, self, pipeline.policy.change)
            body = self.request.raw() if self.request is not None and self.request_complete else None
            access_change.add_access_change(event, decision, scope["method"], body)
        self.complete(event)
        beside = None
        if credential is not None or trail.failures or actor.method == "authenticated":
            beside = authentication.complete(pipeline, event, trail, credential)
        if decision.level >= _INPUTS:
            add_contents(event, self, decision.level)
        return event, decision, beside

    def model(self) -> tuple[str, str]:
        """Name and version of the model in the path of the request; "" for what the path does not contain."""
        return self._pipeline.policy.route_model(self.scope["method"], self.scope["path"])


def refused_kind(pipeline: Pipeline, kind: str | None, path: str) -> str | None:
    """The kind that stops a request: a rule says refuse, and nothing can be written."""
    for wanted in (ML_PREDICTION, API_REQUEST) if kind is None else (kind,):
        if pipeline.decide(wanted, route=path).on_failure == "refuse" and not pipeline.writable():
            return wanted
    return None


def handled_exception() -> str:
    """The class of the exception that is being handled, "" for none."""
    # An error handler sends its answer from within ``except``: that is the exception the answer is about.
    error = sys.exception()
    return "" if error is None else type(error).__name__
