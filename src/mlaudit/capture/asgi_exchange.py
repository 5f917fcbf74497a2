"""One HTTP exchange as it goes by; the numbers are those of the module ``asgi``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace

from mlaudit.capture.asgi_actor import ANONYMOUS, find_actor
from mlaudit.capture.asgi_body import OFFLOAD_BYTES, Body
from mlaudit.capture.asgi_record import (
    CONFIG_CHANGED,
    REQUEST,
    Answer,
    add_config_change,
    add_contents,
    event_of,
    kind_of,
    outcome_of,
    route_of,
)
from mlaudit.capture.asgi_trace import mark_span, trace_ids
from mlaudit.capture.interface import RequestTrail
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.event import FAILURE, UNKNOWN

if TYPE_CHECKING:
    from mlaudit.event import AuditEvent
    from mlaudit.pipeline import Pipeline
    from mlaudit.policy.evaluate import Decision

Message = MutableMapping[str, Any]

COMPONENT: Final = "asgi"
_NO_BODY: Final = frozenset({204, 304})
_INPUTS: Final = 2
_FULL: Final = 3
_REFUSAL: Final = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The audit record of this request '
    b'could not be stored, and the audit policy does not allow an unrecorded request."}'
)


class Exchange:
    """One request and its response.

    ``recorded`` is true once the record was made, or its making was tried; ``refused`` is then why an answer that
    had begun was broken off.
    """

    __slots__ = (
        "_begun",
        "_bodiless",
        "_disconnected",
        "_expected",
        "_forward",
        "_headers",
        "_mapped",
        "_p",
        "_receive",
        "_request",
        "_request_complete",
        "_request_limit",
        "_response",
        "_response_headers",
        "_root",
        "_scope",
        "_span",
        "_start",
        "_started",
        "_status",
        "recorded",
        "refused",
        "trail",
    )

    def __init__(
        self,
        p: Pipeline,
        mapped: str | None,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Takes the request; ``mapped`` is the kind that the policy gives its path, None when it gives none."""
        self._started = perf_counter_ns()
        self._p = p
        self._mapped = mapped
        self._scope = scope
        self._receive = receive
        self._forward = send
        self._root: str = scope.get("root_path", "")
        headers = scope["headers"]
        # The first of several wins, as frameworks read it: a second Authorization must not change who it was.
        self._headers: Mapping[bytes, bytes] = dict(
            reversed(headers if type(headers) is list else [*headers])
        )
        self._request: Body | None = None
        self._request_complete = False
        self._response: Body | None = None
        self._response_headers: Mapping[bytes, bytes] = {}
        self._span: trace.Span = trace.INVALID_SPAN
        self._status = 0
        self._start: Message | None = None
        self._begun = False
        self._bodiless = False
        self._expected = -1
        self._disconnected = False
        self.trail = RequestTrail()
        self.recorded = False
        self.refused = ""

    async def receive(self) -> Message:
        """Passes a message to the application, and takes note of the request body in it."""
        message = await self._receive()
        if self.recorded:
            return message
        try:
            if message["type"] == "http.request":
                chunk = message.get("body")
                if chunk:
                    if self._request is None:
                        wanted = self._p.policy.deepest >= _INPUTS or self._mapped == CONFIG_CHANGED
                        self._request = Body(self._p.settings.body_limit if wanted else 0)
                    await _add(self._request, chunk)
                self._request_complete = not message.get("more_body", False)
            elif message["type"] == "http.disconnect":
                self._disconnected = True
        except Exception as error:  # noqa: BLE001 - contained
            self._request = None
            self._p.fault(COMPONENT, error)
        return message

    async def send(self, message: Message) -> None:
        """Passes a message of the application on, the last one only after the record is stored."""
        if self.recorded:
            if not self.refused:
                await self._forward(message)
            return
        kind = message["type"]
        if kind == "http.response.start":
            self._note_start(message)
            if self._begun:
                await self._forward(message)
            else:
                self._start = message  # 2
            return
        if kind == "http.response.body":
            last = await self._note_body(message)
        elif kind == "http.response.pathsend":
            last = True
        elif kind == "http.response.zerocopysend":
            last = not message.get("more_body", False)
        else:  # server push, early hints, trailers: nothing of the content
            await self._forward(message)
            return
        if last and not await self._record_answer():
            return
        if not self._begun:
            self._begun = True
            if self._start is not None:
                await self._forward(self._start)
        await self._forward(message)  # 4

    def break_off(self, error: BaseException | None) -> None:
        """Records an exchange whose application ended without a complete answer, by an exception or not."""
        if self.recorded:
            return
        outcome, name = FAILURE, ""
        if isinstance(error, asyncio.CancelledError):
            outcome, reason = UNKNOWN, "the request was cancelled"
        elif error is not None:
            name, reason = type(error).__name__, "the application raised"
        elif self._disconnected:
            outcome, reason = UNKNOWN, "the client disconnected before the end of the response"
        else:
            reason = "the application returned without a complete response"
        if outcome == FAILURE and not self._begun:
            self._status = 500  # nothing has gone out, and this is what servers answer then
        try:
            self._span = (
                self._span if self._status and self._span.is_recording() else trace.get_current_span()
            )
            self._emit(outcome, name, reason)
        except AuditRefusedError:
            return  # counted by the pipeline; there is no answer to hold back

    async def _record_answer(self) -> bool:
        """Stores the record of a complete answer; returns whether the answer may go out."""
        status = self._status
        error = _handled_exception() if status >= 500 else ""
        try:
            emitted = self._emit(outcome_of(status), error, "")
            if emitted is None:
                return True
            receipt, event, decision = emitted
            if decision.guarantee != "durable" or await receipt.wait_async():  # 3
                return True
            lost = SpoolUnavailableError("the disk did not confirm the record")
            if decision.on_failure != "refuse":
                self._p.fault(COMPONENT, lost)
                return True
            self._p.refuse(event.kind, lost)
            refused = str(lost)
        except AuditRefusedError as reason:
            refused = str(reason)
        if self._begun:
            self.refused = refused
            raise AuditRefusedError(refused)  # the server breaks the connection off
        await answer_refusal(self._forward)
        self._forward = _discard  # what else the application sends is of the answer that was refused
        return False

    def _emit(self, outcome: str, error: str, reason: str) -> tuple[Any, AuditEvent, Decision] | None:
        """Makes the record; None when there is none to wait for.

        Raises:
            AuditRefusedError: it could not be stored, and the policy says refuse. Nothing else.
        """
        self.recorded = self.trail.closed = True
        try:
            described = self._describe(outcome, error, reason)
        except Exception as fault:  # noqa: BLE001 - contained: a record without what could not be found out
            fields = {"http.request.method": self._scope["method"], "http.response.status_code": self._status}
            self._p.fault(COMPONENT, fault, kind=self._mapped or REQUEST, fields=fields, outcome=outcome)
            return None
        if described is None:
            return None
        event, decision = described
        receipt = self._p.emit(event, decision, wait=False)
        try:
            if self._span.is_recording():
                mark_span(self._span, event, decision)
        except Exception as fault:  # noqa: BLE001 - contained
            self._p.fault(COMPONENT, fault)
        return receipt, event, decision

    def _describe(self, outcome: str, error: str, reason: str) -> tuple[AuditEvent, Decision] | None:
        p, scope, trail = self._p, self._scope, self.trail
        route = trail.route = route_of(scope, self._root)
        mapped = self._mapped
        if mapped is None and "{" in route:
            mapped = p.policy.route_kind(scope["method"], route)
            if mapped == "":
                return None
        kind = trail.kind = kind_of(mapped, trail, self._status)
        actor = find_actor(scope, self._headers, trail, p.settings.actor_header, p.policy.pseudonyms.of)
        models = trail.models
        decision = p.decide(
            kind,
            route=route or scope["path"],
            model=models[-1].name if models else "",
            actor="" if actor is ANONYMOUS else actor.id,
        )
        if decision.level == 0:
            return None
        answer = Answer(
            scope,
            self._headers,
            self._status,
            self._response_headers,
            self._request,
            self._request_complete,
            self._response,
            perf_counter_ns() - self._started,
            outcome,
            error,
            reason,
        )
        event = event_of(kind, mapped, answer, trail, actor)
        event.trace_id, event.span_id = trace_ids(self._span, self._headers)
        if kind == CONFIG_CHANGED:
            add_config_change(event, answer, p.policy.change)
        if decision.level >= _INPUTS:
            add_contents(event, answer, decision.level)
        return event, decision

    def _note_start(self, message: Message) -> None:
        try:
            self._status = status = message["status"]
            self._span = trace.get_current_span()
            self._response_headers = headers = {
                name.lower(): value for name, value in message.get("headers") or ()
            }
            self._bodiless = status in _NO_BODY or self._scope["method"] == "HEAD"
            length = headers.get(b"content-length")
            if length is not None:
                self._expected = int(length)
            else:
                # Without a length the end is a message of its own, so the client need not wait for the headers.
                self._begun = not self._bodiless and not self._p.policy.can_refuse
        except Exception as error:  # noqa: BLE001 - contained
            self._p.fault(COMPONENT, error)

    async def _note_body(self, message: Message) -> bool:
        """Takes note of a body message; returns whether the client has everything with it."""
        if self._bodiless:
            return True
        try:
            chunk = message.get("body")
            if chunk:
                if self._response is None:
                    self._response = Body(
                        self._p.settings.body_limit if self._p.policy.deepest >= _FULL else 0
                    )
                await _add(self._response, chunk)
                if self._response.size >= self._expected >= 0:
                    return True
        except Exception as error:  # noqa: BLE001 - contained
            self._response = None
            self._p.fault(COMPONENT, error)
        return not message.get("more_body", False)


async def answer_refusal(send: Callable[[Message], Awaitable[None]]) -> None:
    """Answers 503 with a problem document (RFC 9457)."""
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"retry-after", b"5"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})


async def _add(body: Body, chunk: bytes) -> None:
    if len(chunk) > OFFLOAD_BYTES:
        await asyncio.to_thread(body.add, chunk)
    else:
        body.add(chunk)


async def _discard(_: Message) -> None:
    return


def _handled_exception() -> str:
    # An error handler sends its answer from within ``except``: that is the exception the answer is about.
    error = sys.exception()
    return "" if error is None else type(error).__name__
