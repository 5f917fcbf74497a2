"""Spans of other instrumentations become records, whatever the sampler does with them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Status, StatusCode

from mlaudit.capture.request_context import RequestTrail, current_request
from mlaudit.capture.telemetry import spans
from mlaudit.capture.telemetry.providers import attach_to_tracer_provider
from mlaudit.capture.telemetry.sampler import RecordingSampler
from mlaudit.errors import SpoolFullError
from mlaudit.event import Actor
from mlaudit.testing import AuditLog, capture

POLICY = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
redact: []
rules: [{name: all, level: metadata}]
spans:
  - scope: warehouse
    name: "promote *"
    kind: audit.app.model.promoted
    fields: {model.name: ml.model.name, enduser.id: user.id}
"""
NO_SELECTORS = POLICY.partition("spans:")[0] + "spans: []\ndata: {paths: [], tables: []}\n"


class Tracing:
    """A provider with an exporter that sees what a trace backend would get."""

    def __init__(self, sampler: Sampler) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.early = self.provider.get_tracer("warehouse", "early")
        attach_to_tracer_provider(self.provider)
        self.tracer = self.provider.get_tracer("warehouse")

    @property
    def exported(self) -> Any:
        return self.exporter.get_finished_spans()


@pytest.fixture
def log() -> Any:
    """Audit with a span selector."""
    with capture(POLICY, instrument=False) as running:
        yield running


def test_a_selected_span_becomes_a_record_of_its_trace(log: AuditLog) -> None:
    """Fields are mapped, the ids are the span's, and the span leads back to the record."""
    tracing = Tracing(ALWAYS_ON)
    attributes = {"model.name": "churn", "enduser.id": "dora", "other": "left out"}
    with tracing.tracer.start_as_current_span("promote churn", attributes=attributes):
        pass
    (record,) = log.of("audit.app.model.promoted")
    (span,) = tracing.exported
    assert record["ml.model.name"] == "churn"
    assert record["user.id"] == record["audit.actor.id"] == "dora"
    assert record["audit.target.id"] == "churn"
    assert record["trace.id"] == f"{span.context.trace_id:032x}"
    assert record["span.id"] == f"{span.context.span_id:016x}"
    assert record["event.outcome"] == "success"
    assert record["event.duration"] == span.end_time - span.start_time
    assert "other" not in record
    assert span.attributes["audit.record.id"] == record["audit.record.id"]
    assert span.attributes["audit.outcome"] == "success"


def test_a_span_with_an_error_is_a_failure(log: AuditLog) -> None:
    """The span's status is the outcome."""
    tracing = Tracing(ALWAYS_ON)
    with tracing.tracer.start_as_current_span("promote churn") as span:
        span.set_attribute("error.type", "timeout")
        span.set_status(Status(StatusCode.ERROR))
    (record,) = log.of("audit.app.model.promoted")
    assert (record["event.outcome"], record["error.type"]) == ("failure", "timeout")


def test_spans_that_no_selector_wants_are_no_records(log: AuditLog) -> None:
    """Another name or another scope is ignored."""
    tracing = Tracing(ALWAYS_ON)
    tracing.tracer.start_span("demote churn").end()
    tracing.provider.get_tracer("shop").start_span("promote churn").end()
    assert log.kinds() == []
    assert len(tracing.exported) == 2


@pytest.mark.parametrize(
    "sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF), TraceIdRatioBased(0.0)], ids=["off", "parent", "ratio"]
)
def test_the_trail_is_complete_though_nothing_is_sampled(log: AuditLog, sampler: Sampler) -> None:
    """Every selected span is recorded, children included; the trace backend gets none of them."""
    tracing = Tracing(sampler)
    with tracing.tracer.start_as_current_span("request") as parent:
        tracing.tracer.start_span("promote a").end()
        tracing.early.start_span("promote b").end()
        assert not parent.get_span_context().trace_flags.sampled
    assert len(log.of("audit.app.model.promoted")) == 2
    assert tracing.exported == ()


def test_what_is_sampled_stays_sampled(log: AuditLog) -> None:
    """The wrapped sampler's decision to export is not touched, nor its description lost."""
    tracing = Tracing(ParentBased(ALWAYS_ON))
    tracing.tracer.start_span("promote a").end()
    assert len(tracing.exported) == 1
    assert "AlwaysOn" in tracing.provider.sampler.get_description()


def test_without_span_selectors_dropped_spans_cost_nothing() -> None:
    """A policy that wants no spans leaves the sampler's DROP alone."""
    with capture(NO_SELECTORS, instrument=False):
        assert not Tracing(ALWAYS_OFF).tracer.start_span("promote a").is_recording()


def test_without_a_pipeline_dropped_spans_stay_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """With auditing off the sampler is as it was."""
    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    assert not Tracing(ALWAYS_OFF).tracer.start_span("promote a").is_recording()


def test_attaching_twice_records_once(log: AuditLog) -> None:
    """Launcher, application and hooks may all announce the same provider."""
    tracing = Tracing(ALWAYS_ON)
    attach_to_tracer_provider(tracing.provider)
    tracing.tracer.start_span("promote a").end()
    assert len(log.of("audit.app.model.promoted")) == 1
    assert not isinstance(tracing.provider.sampler.inner, RecordingSampler)


def test_something_that_is_no_sdk_provider_is_left_alone() -> None:
    """A vendor's own provider without processors is not touched."""
    attach_to_tracer_provider(object())


def test_the_actor_of_the_request_is_the_actor_of_its_spans(log: AuditLog) -> None:
    """Whoever sent the request did what its spans describe."""
    trail = RequestTrail()
    trail.actor = Actor("carol")
    token = current_request.set(trail)
    try:
        Tracing(ALWAYS_ON).tracer.start_span("promote a").end()
    finally:
        current_request.reset(token)
    assert log.of("audit.app.model.promoted")[0]["audit.actor.id"] == "carol"


def test_a_fault_of_ours_does_not_reach_the_application(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The span ends and is exported; the trail says that the span processor failed."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(spans, "_event_of", broken)
    tracing = Tracing(ALWAYS_ON)
    tracing.tracer.start_span("promote a").end()
    assert len(tracing.exported) == 1
    assert log.of("audit.pipeline.failure")[0]["audit.component"] == "spans"


def test_a_full_spool_under_refuse_does_not_reach_the_application() -> None:
    """What a span describes is over: the loss is counted, nothing is raised."""
    with capture(
        POLICY.replace("level: metadata", "level: metadata, on_failure: refuse"), instrument=False
    ) as log:
        log.fail(SpoolFullError("full"))
        Tracing(ALWAYS_ON).tracer.start_span("promote a").end()
        assert log.pipeline.counts.refused == 1


def test_an_sdk_that_does_not_announce_the_end_is_served_at_the_end(log: AuditLog) -> None:
    """Where only ``on_end`` is called, the record is made there, once."""
    tracing = Tracing(ALWAYS_ON)
    processor = spans.AuditSpanProcessor()
    span = tracing.provider.get_tracer("shop").start_span("x")
    span.end()
    (finished,) = tracing.exported
    finished._name = "promote a"
    finished._instrumentation_scope = tracing.tracer._instrumentation_scope
    processor.on_end(finished)
    assert len(log.of("audit.app.model.promoted")) == 1


def test_a_language_model_call_is_a_prediction_under_the_built_in_policy(audit_records: AuditLog) -> None:
    """GenAI spans of any instrumentation need no policy of one's own; prompts are not copied."""
    tracing = Tracing(ALWAYS_OFF)
    with tracing.tracer.start_as_current_span("chat gpt") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.request.model", "gpt-x")
        span.set_attribute("gen_ai.input.messages", "a secret prompt")
    (record,) = audit_records.of("audit.ml.prediction")
    assert record["gen_ai.request.model"] == record["ml.model.name"] == "gpt-x"
    assert "secret prompt" not in str(record)
