"""Ordinary logs and traces go through the same collector, separate from the audit trail."""

from __future__ import annotations

import secrets
import time

import pytest

pytestmark = pytest.mark.stack

STEERING = {"elasticsearch.index": "evil", "data_stream.dataset": "evil", "elastic.mapping.mode": "raw"}


def test_ordinary_log_arrives_in_its_own_data_stream(sender, service):
    """A log record of another scope is stored as OpenTelemetry data, whatever data stream it names."""
    record = sender.record("hello", STEERING) | {"eventName": ""}
    status = sender.send(
        record, scope="app", scope_attributes=STEERING, resource=STEERING | {"service.name": service}
    )
    assert status == 200
    (hit,) = sender.find(1, "logs-generic.otel-*", {"term": {"resource.attributes.service.name": service}})
    assert ".ds-logs-generic.otel-default-" in hit["_index"]
    assert hit["_source"]["body"]["text"] == "hello"


@pytest.mark.parametrize(
    ("scope", "event_name"),
    [("mlaudit", ""), ("app", "audit.ml.prediction")],
    ids=["no event", "other scope"],
)
def test_what_is_not_an_audit_record_does_not_enter_the_trail(
    sender, service, elasticsearch, scope, event_name
):
    """Both the scope and the event's name must be mlaudit's."""
    record = sender.record(sender.original()) | {"eventName": event_name}
    assert sender.send(record, scope=scope, resource={"service.name": service}) == 200
    assert sender.find(1, "logs-generic.otel-*", {"term": {"resource.attributes.service.name": service}})
    elasticsearch.indices.refresh(index="logs-mlaudit.*", ignore_unavailable=True)
    found = elasticsearch.count(index="logs-mlaudit.*", query={"term": {"service.name": service}})
    assert found["count"] == 0


def test_span_with_its_events_arrives(sender, service):
    """Traces are stored with the logs, and a span's attributes cannot redirect it."""
    now = time.time_ns()
    span = {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": "POST /predict",
        "kind": 2,
        "startTimeUnixNano": str(now - 1_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": "elasticsearch.index", "value": {"stringValue": "evil"}}],
        "events": [
            {
                "timeUnixNano": str(now),
                "name": "exception",
                "attributes": [{"key": "elasticsearch.index", "value": {"stringValue": "evil"}}],
            }
        ],
    }
    resource = [{"key": "service.name", "value": {"stringValue": service}}]
    message = {
        "resourceSpans": [
            {
                "resource": {"attributes": resource},
                "scopeSpans": [{"scope": {"name": "app"}, "spans": [span]}],
            }
        ]
    }
    assert sender.post("/v1/traces", message) == 200
    query = {"term": {"resource.attributes.service.name": service}}
    (hit,) = sender.find(1, "traces-generic.otel-*", query)
    assert hit["_source"]["name"] == "POST /predict"
    assert hit["_source"]["trace_id"] == span["traceId"]
    (event,) = sender.find(1, "logs-generic.otel-*", query)
    assert event["_source"]["event_name"] == "exception"


def test_collector_counts_what_it_stored(sender, stack):
    """The collector's own metrics distinguish stored from rejected documents."""
    assert sender.send(sender.record(sender.original())) == 200
    sender.find(1)
    text = sender.pool.request("GET", stack.metrics_url).data.decode()
    assert "otelcol_elasticsearch_docs_processed" in text
    assert 'outcome="success"' in text
