"""The trace that a request belongs to, and the audit's mark on its span."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

    from mlaudit.event import AuditEvent
    from mlaudit.policy.evaluate import Decision

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


def trace_ids(span: Span, headers: Mapping[bytes, bytes]) -> tuple[int, int]:
    """Trace and span id: of the request's own span, else of a valid ``traceparent``, else (0, 0).

    Without an SDK in this process there is no own span; the caller's ids (W3C Trace Context) still join the record
    to the caller's trace.
    """
    context = span.get_span_context()
    if context.is_valid:
        return context.trace_id, context.span_id
    header = headers.get(b"traceparent")
    if header is None:
        return 0, 0
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None or found[1] == b"ff":
        return 0, 0
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    return (trace_id, span_id) if trace_id and span_id else (0, 0)


def mark_span(span: Span, event: AuditEvent, decision: Decision) -> None:
    """Puts the audit attributes of a record on a span, the actor as the policy lets it be seen."""
    actor = event.actor
    attributes: dict[str, Any] = (
        {} if actor is None else {"audit.actor.id": actor.id, "audit.actor.type": actor.type}
    )
    decision.redaction.apply(attributes)
    attributes["audit.record.id"] = event.record_id
    attributes["audit.outcome"] = event.outcome
    attributes["audit.action"] = event.action or action_of(event.kind)
    span.set_attributes(attributes)


def action_of(kind: str) -> str:
    """The catalog's verb of a kind."""
    known = kind_of(kind)
    return known.action if known is not None else ""
