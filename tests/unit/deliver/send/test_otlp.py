from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.deliver.send.otlp import Envelope, attribute, log_record

names = st.text(min_size=1, max_size=200)
texts = st.text(max_size=300)
integers = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(
    body=texts,
    time=st.integers(min_value=1, max_value=2**63),
    severity=st.integers(min_value=1, max_value=24),
    attributes=st.lists(st.tuples(names, texts | integers), max_size=8),
    trace_id=st.integers(min_value=0, max_value=2**128 - 1),
    span_id=st.integers(min_value=1, max_value=2**64 - 1),
)
def test_official_classes_read_what_was_written(
    body: str, time: int, severity: int, attributes: list[tuple[str, str | int]], trace_id: int, span_id: int
) -> None:
    """opentelemetry-proto parses any encoded record to the same record."""
    payload = log_record(
        time=time,
        severity=severity,
        event_name="audit.ml.prediction",
        body=body.encode(),
        attributes=b"".join(attribute(name, value) for name, value in attributes),
        trace_id=trace_id,
        span_id=span_id,
    )
    record = LogRecord.FromString(payload)
    assert record.time_unix_nano == record.observed_time_unix_nano == time
    assert record.severity_number == severity
    assert record.body.string_value == body
    assert record.event_name == "audit.ml.prediction"
    assert record.trace_id == (trace_id.to_bytes(16, "big") if trace_id else b"")
    assert record.span_id == (span_id.to_bytes(8, "big") if trace_id else b"")
    found = [
        (item.key, item.value.string_value if item.value.HasField("string_value") else item.value.int_value)
        for item in record.attributes
    ]
    assert found == attributes


@given(
    st.lists(
        st.binary(max_size=40_000).map(
            lambda raw: log_record(
                time=1, severity=9, event_name="audit.x", body=raw.hex().encode(), attributes=b""
            )
        ),
        max_size=5,
    )
)
def test_envelope_is_one_resource_and_one_scope(payloads: list[bytes]) -> None:
    """A request contains its records in order under one resource and one scope."""
    envelope = Envelope({"service.name": "café", "process.pid": 7}, "mlaudit", "1.2.3")
    request = ExportLogsServiceRequest.FromString(envelope.request(payloads))
    (resource_logs,) = request.resource_logs
    assert {item.key for item in resource_logs.resource.attributes} == {"service.name", "process.pid"}
    (scope_logs,) = resource_logs.scope_logs
    assert (scope_logs.scope.name, scope_logs.scope.version) == ("mlaudit", "1.2.3")
    assert [record.SerializeToString() for record in scope_logs.log_records] == [
        LogRecord.FromString(payload).SerializeToString() for payload in payloads
    ]
