"""The origin of an event: the actor stated in this context, and the current span."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mlaudit.capture.request_context import current_actor

if TYPE_CHECKING:
    from mlaudit.event import AuditEvent


def originate(event: AuditEvent) -> AuditEvent:
    """Fills in actor, trace and span of this context where the event has none; returns the event."""
    if event.actor is None:
        event.actor = current_actor.get()
    if not event.trace_id:
        trace = sys.modules.get("opentelemetry.trace")
        if trace is not None:
            context = trace.get_current_span().get_span_context()
            event.trace_id = context.trace_id
            event.span_id = context.span_id if context.trace_id else 0
    return event
