"""Spans of other instrumentations that the policy calls audit events."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode

from mlaudit import pipeline
from mlaudit.capture.http_trace import action_of
from mlaudit.capture.interface import current_actor, open_trail
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, Actor, AuditEvent, Target

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, Span

_COMPONENT: Final = "spans"


class AuditSpanProcessor(SpanProcessor):
    """Makes a record of every span that an entry of the policy's ``spans`` selects, when the span ends.

    The record's id and outcome are put on the span, so that the trace leads to the record. A fault is contained:
    the span ends as it would without us. The policy's ``on_failure: refuse`` cannot be kept here, for what a span
    describes is over when it ends; a lost record is counted.
    """

    def __init__(self) -> None:
        self._ending = False

    def _on_ending(self, span: Span) -> None:
        # Called before any processor's on_end, so before an exporter can have read the attributes.
        self._ending = True
        self._record(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Records the span, where the SDK does not announce the end."""
        if not self._ending:
            self._record(span)

    def _record(self, span: ReadableSpan) -> None:
        p = None
        try:
            p = pipeline.current()
            if p is None or not p.policy.has_span_selectors:
                return
            scope = span.instrumentation_scope
            attributes = span.attributes or {}
            selection = p.policy.span_kind(scope.name if scope else "", span.name, attributes)
            # What the audit's own sender does is no event of the service, and would never end.
            if selection is None or threading.current_thread().name.startswith("mlaudit-"):
                return
            event = _event_of(span, selection.kind, selection.fields)
            p.emit(event, wait=False)
            _mark(span, event)
        except AuditRefusedError:
            return  # counted by the pipeline
        except Exception as error:  # noqa: BLE001 - contained
            if p is not None:
                p.fault(_COMPONENT, error)


def _event_of(span: ReadableSpan, kind: str, fields: dict[str, Any]) -> AuditEvent:
    context = span.get_span_context()
    failed = span.status.status_code is StatusCode.ERROR
    error = (span.attributes or {}).get("error.type")
    if failed and isinstance(error, str):
        fields.setdefault("error.type", error)
    if span.start_time and span.end_time:
        fields["event.duration"] = max(0, span.end_time - span.start_time)
    model = fields.get("ml.model.name")
    event = AuditEvent(
        kind,
        FAILURE if failed else SUCCESS,
        actor_of(fields),
        Target("model", str(model)) if model else Target("span", span.name),
        fields,
    )
    if context is not None:
        event.trace_id, event.span_id = context.trace_id, context.span_id
    if span.end_time:
        event.timestamp = span.end_time
    return event


def actor_of(fields: dict[str, Any]) -> Actor | None:
    """The actor of the request or block under way, else the user that the telemetry names, else the process."""
    trail = open_trail()
    actor = (trail.actor if trail is not None else None) or current_actor.get()
    if actor is not None:
        return actor
    user = fields.get("user.id")
    return Actor(user, name=fields.get("user.name")) if isinstance(user, str) and user else None


def _mark(span: ReadableSpan, event: AuditEvent) -> None:
    # An ending span takes no more attributes by its public interface; the mapping below is shared by all processors.
    attributes: Any = getattr(span, "_attributes", None)
    stored = getattr(attributes, "_immutable", None)
    if stored is None:
        return
    attributes._immutable = False  # noqa: SLF001
    try:
        attributes["audit.record.id"] = event.record_id
        attributes["audit.action"] = event.action or action_of(event.kind)
        attributes["audit.outcome"] = event.outcome
    finally:
        attributes._immutable = stored  # noqa: SLF001
