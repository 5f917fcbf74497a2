"""Spans of other instrumentations that the policy selects as audit events."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode

from mlaudit.capture.data import data_spans
from mlaudit.capture.data.access import event_of
from mlaudit.capture.request_context import current_actor, open_trail
from mlaudit.capture.telemetry.guardrails import guardrail_of
from mlaudit.capture.tracing import action_of
from mlaudit.catalog.names import ML_PREDICTION
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, Actor, AuditEvent, Target
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from mlaudit.capture.data.access import Access
    from mlaudit.pipeline.pipeline import Pipeline
    from mlaudit.policy.evaluate import CompiledPolicy

_COMPONENT: Final = "spans"


class AuditSpanProcessor(SpanProcessor):
    """Makes a record of every span that an entry of the policy's ``spans`` selects, when the span ends.

    The record's id and outcome are set on the span, so that the trace leads to the record. A fault is contained:
    the span ends as without mlaudit. The policy's ``on_failure: refuse`` is not possible here, because what a span
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
        pipeline = None
        try:
            pipeline = current.pipeline()
            if pipeline is None or not wants_spans(pipeline.policy):
                return
            # Requests of the audit's own sender are not events of the service, and would never end.
            if threading.current_thread().name.startswith("mlaudit-"):
                return
            events = _events_of(pipeline, span)
            for event in events:
                pipeline.emit(event, wait=False)
            if events:
                _mark(span, events[0])
        except AuditRefusedError:
            return  # counted by the pipeline
        except Exception as error:  # noqa: BLE001 - contained
            if pipeline is not None:
                pipeline.fault(_COMPONENT, error)


def wants_spans(policy: CompiledPolicy) -> bool:
    """Whether any span can be an event under this policy."""
    # A program without the SDK of an object store creates no spans of one.
    objects = policy.data.has_paths and "botocore" in sys.modules
    return policy.has_span_selectors or policy.data.has_tables or objects


def _events_of(pipeline: Pipeline, span: ReadableSpan) -> list[AuditEvent]:
    """The events of a span according to the policy's ``spans``, else its ``data``."""
    scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
    attributes = span.attributes or {}
    selection = pipeline.policy.span_kind(scope, span.name, attributes)
    if selection is None:
        found = data_spans.found_in(pipeline, scope, span.name, attributes)
        return [_access_of(pipeline, span, access) for access in found.accesses]
    if selection.kind in data_spans.KINDS:
        found = data_spans.found_in(pipeline, scope, span.name, attributes)
        # A hook has more facts of the same statement, and the outcome of its transaction.
        if found.recorded:
            return []
        operation = found.accesses[0].operation if found.accesses else span.name.partition(" ")[0]
        selection.fields.setdefault("ml.dataset.operation", operation)
    return [_event_of(span, selection.kind, selection.fields)]


def _access_of(pipeline: Pipeline, span: ReadableSpan, access: Access) -> AuditEvent:
    event = event_of(pipeline, access, failed=_has_failed(span), fields=_error_and_duration(span))
    event.actor = actor_of(event.fields)
    return _at(span, event)


def _event_of(span: ReadableSpan, kind: str, fields: dict[str, Any]) -> AuditEvent:
    fields = {**_error_and_duration(span), **fields}
    if kind == ML_PREDICTION:
        events = (event.attributes or {} for event in span.events)
        reasons = fields.get("gen_ai.response.finish_reasons")
        fields.update(guardrail_of(span.attributes or {}, events, reasons))
    model = fields.get("ml.model.name")
    target = Target("model", str(model)) if model else Target("span", span.name)
    outcome = FAILURE if _has_failed(span) else SUCCESS
    return _at(span, AuditEvent(kind, outcome, actor_of(fields), target, fields))


def _has_failed(span: ReadableSpan) -> bool:
    return span.status.status_code is StatusCode.ERROR


def _error_and_duration(span: ReadableSpan) -> dict[str, Any]:
    """The error and the duration of a span."""
    fields: dict[str, Any] = {}
    error = (span.attributes or {}).get("error.type")
    if _has_failed(span) and isinstance(error, str):
        fields["error.type"] = error
    if span.start_time and span.end_time:
        fields["event.duration"] = max(0, span.end_time - span.start_time)
    return fields


def _at(span: ReadableSpan, event: AuditEvent) -> AuditEvent:
    context = span.get_span_context()
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
    # An ending span accepts no attributes by its public interface; the mapping below is shared by all processors.
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
