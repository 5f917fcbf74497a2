"""Log records that are audit events: by their event name, or because the policy selects them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs import LogRecordProcessor

from mlaudit.capture.telemetry.spans import actor_of
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, UNKNOWN, AuditEvent, Target
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadWriteLogRecord

_COMPONENT: Final = "logs"
_OWN: Final = "mlaudit"
_ERROR: Final = 17
_OUTCOMES: Final = frozenset({SUCCESS, FAILURE, UNKNOWN})


class AuditLogProcessor(LogRecordProcessor):
    """Makes a record of every log record that an entry of the policy's ``logs`` selects, as it is emitted.

    The log record itself reaches the other processors unchanged. mlaudit's own loggers are never read: what
    they log about a record would make a record. A fault is contained; ``on_failure: refuse`` is not possible here.
    """

    def __init__(self) -> None:
        self._busy = threading.local()

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Records the log record when it is selected."""
        scope = log_record.instrumentation_scope
        logger = scope.name if scope else ""
        if logger == _OWN or logger.startswith(f"{_OWN}.") or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        pipeline = None
        try:
            pipeline = current.pipeline()
            if pipeline is None or not pipeline.policy.has_log_selectors:
                return
            record = log_record.log_record
            attributes = record.attributes or {}
            severity = record.severity_number.value if record.severity_number is not None else 0
            selection = pipeline.policy.log_kind(record.event_name or "", logger, severity, attributes)
            if selection is None or threading.current_thread().name.startswith("mlaudit-"):
                return
            pipeline.emit(_event_of(record, selection.kind, selection.fields, severity, logger), wait=False)
        except AuditRefusedError:
            return  # counted by the pipeline
        except Exception as error:  # noqa: BLE001 - contained
            if pipeline is not None:
                pipeline.fault(_COMPONENT, error)
        finally:
            self._busy.now = False

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held."""
        return True


def _event_of(record: Any, kind: str, fields: dict[str, Any], severity: int, logger: str) -> AuditEvent:
    attributes = record.attributes or {}
    said = attributes.get("audit.outcome") or attributes.get("event.outcome")
    outcome = said if said in _OUTCOMES else FAILURE if severity >= _ERROR else SUCCESS
    error = attributes.get("exception.type")
    if isinstance(error, str):
        fields.setdefault("error.type", error)
    target_id, target_type = attributes.get("audit.target.id"), attributes.get("audit.target.type")
    target = Target(str(target_type or "object"), str(target_id)) if target_id else Target("logger", logger)
    event = AuditEvent(kind, outcome, actor_of(fields), target, fields)
    event.trace_id, event.span_id = record.trace_id or 0, record.span_id or 0
    if record.timestamp:
        event.timestamp = record.timestamp
    return event
