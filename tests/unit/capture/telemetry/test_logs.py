"""Log records that are audit events by their name or by the policy's selectors."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from mlaudit.capture.telemetry import logs
from mlaudit.capture.telemetry.providers import attach_to_logger_provider
from mlaudit.errors import SpoolFullError
from mlaudit.testing import AuditLog, capture

POLICY = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
redact: []
rules: [{name: all, level: metadata}]
logs:
  - event_name: audit.*
    fields: {"*": "*"}
  - logger: payments
    severity: error
    kind: audit.app.payment
    fields: {order: labels.order}
"""


class Logging:
    """A provider with an exporter that sees what a log backend would get."""

    def __init__(self) -> None:
        self.exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider()
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))
        attach_to_logger_provider(self.provider)

    def emit(self, logger: str = "payments", **record: Any) -> None:
        self.provider.get_logger(logger).emit(LogRecord(**record))

    def stdlib(self, name: str) -> logging.Logger:
        """A standard logger whose records go to the provider."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            handler = LoggingHandler(logger_provider=self.provider)
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        return logger


@pytest.fixture
def log() -> Any:
    """Audit with log selectors."""
    with capture(POLICY, instrument=False) as running:
        yield running


def test_an_event_that_names_a_kind_of_the_catalog_is_that_event(log: AuditLog) -> None:
    """Any OpenTelemetry SDK can write an audit event; it goes on to the other processors too."""
    logging_ = Logging()
    logging_.emit(
        event_name="audit.app.approved",
        timestamp=1_700_000_000_000_000_000,
        trace_id=5,
        span_id=6,
        body="anything",
        attributes={"user.id": "dora", "audit.outcome": "failure", "ml.model.name": "churn"},
    )
    (record,) = log.of("audit.app.approved")
    assert record["@timestamp"] == "2023-11-14T22:13:20.000000000Z"
    assert record["event.outcome"] == "failure"
    assert record["audit.actor.id"] == "dora"
    assert record["ml.model.name"] == "churn"
    assert record["trace.id"].endswith("5")
    assert record["span.id"].endswith("6")
    assert len(logging_.exporter.get_finished_logs()) == 1


@pytest.mark.parametrize("name", ["audit.stream.started", "audit.service.stopped", "audit.no.such", "other"])
def test_nobody_can_write_what_only_the_audit_itself_records(log: AuditLog, name: str) -> None:
    """Evidence cannot be forged by an event name, and unknown names are no events."""
    before = len(log.records)
    Logging().emit(event_name=name)
    assert len(log.records) == before


def test_a_selector_takes_log_records_by_logger_and_severity(log: AuditLog) -> None:
    """What matches becomes the selector's kind with its fields; an error is a failure."""
    logging_ = Logging()
    logging_.emit(severity_number=SeverityNumber.ERROR, attributes={"order": "7"}, body="card 4111")
    logging_.emit(severity_number=SeverityNumber.INFO)
    logging_.emit("shop", severity_number=SeverityNumber.ERROR)
    (record,) = log.of("audit.app.payment")
    assert record["labels.order"] == "7"
    assert record["event.outcome"] == "failure"
    assert "card" not in str(record)


def test_standard_logging_reaches_the_trail(log: AuditLog) -> None:
    """Through OpenTelemetry's handler an application's own log lines can be audit events."""
    logger = Logging().stdlib("payments")
    try:
        logger.error("declined", extra={"order": "9"})
    finally:
        logger.handlers.clear()
    assert log.of("audit.app.payment")[0]["labels.order"] == "9"


def test_our_own_log_lines_never_become_records(log: AuditLog) -> None:
    """A line about a record would make a record, without end."""
    logging_ = Logging()
    for name in ("mlaudit", "mlaudit.deliver"):
        logging_.emit(name, event_name="audit.app.loop", severity_number=SeverityNumber.ERROR)
    assert log.kinds() == []


def test_a_log_line_written_while_recording_makes_no_record(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library logs while we record an event is not read again in the same thread."""
    logging_ = Logging()
    emit = log.pipeline.emit

    def chatty(*arguments: Any, **options: Any) -> Any:
        logging_.emit(event_name="audit.app.inner")
        return emit(*arguments, **options)

    monkeypatch.setattr(log.pipeline, "emit", chatty)
    logging_.emit(event_name="audit.app.outer")
    assert log.kinds() == ["audit.app.outer"]


def test_a_fault_of_ours_does_not_reach_the_application(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK hands a processor's exception to whoever logs: ours raises none, and tells the trail."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(logs, "_event_of", broken)
    logging_ = Logging()
    logging_.emit(event_name="audit.app.approved")
    assert len(logging_.exporter.get_finished_logs()) == 1
    assert log.of("audit.pipeline.failure")[0]["audit.component"] == "logs"


def test_a_full_spool_does_not_reach_the_application() -> None:
    """Also under refuse: the logging code is not stopped, the loss is counted."""
    with capture(
        POLICY.replace("level: metadata", "level: metadata, on_failure: refuse"), instrument=False
    ) as log:
        log.fail(SpoolFullError("full"))
        Logging().emit(event_name="audit.app.approved")
        assert log.pipeline.counts.refused == 1


def test_attaching_twice_records_once(log: AuditLog) -> None:
    """A provider that is announced again keeps one processor."""
    logging_ = Logging()
    attach_to_logger_provider(logging_.provider)
    logging_.emit(event_name="audit.app.approved")
    assert log.kinds() == ["audit.app.approved"]


def test_with_auditing_off_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pipeline the log record just passes."""
    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    logging_ = Logging()
    logging_.emit(event_name="audit.app.approved")
    assert len(logging_.exporter.get_finished_logs()) == 1
