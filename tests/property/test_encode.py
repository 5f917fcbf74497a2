"""The two encodings of a record, for generated values: the sealed JSON and the OTLP around it."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.deliver.send import otlp
from mlaudit.errors import EventError
from mlaudit.records.encode import MAX_EXACT_INTEGER, MAX_RECORD_BYTES, Common, encode
from mlaudit.records.fit import CUT, fit

PLACE = b'"audit.sequence.number":1'
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: not name.startswith("audit.sequence."))
TEXTS = st.text(max_size=40)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = TEXTS | st.booleans() | st.integers() | FLOATS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=10)
REFUSED = st.one_of(
    st.none(),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.binary(),
    st.complex_numbers(),
    st.sets(st.integers(), min_size=1),
    st.characters(categories=["Cs"]),
    st.dictionaries(st.integers() | st.none() | st.binary(), st.integers(), min_size=1),
)
UINT64 = st.integers(0, 2**64 - 1)


def whole(fields: dict[str, Any]) -> bytes:
    """The record's bytes with a place in it."""
    encoded = encode(fields)
    return encoded.head + PLACE + encoded.tail


def carried(value: Any) -> Any:
    """The decoded form of a value: integers that a double cannot represent are texts of their digits."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_EXACT_INTEGER else str(value)
    if isinstance(value, list):
        return [carried(item) for item in value]
    return {key: carried(item) for key, item in value.items()} if isinstance(value, dict) else value


def same(one: Any, other: Any) -> bool:
    """Equal and of equal types; 1 is not 1.0, nor True, and 0.0 is not -0.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@settings(deadline=None, max_examples=200)
@given(FIELDS)
def test_both_json_readers_give_back_what_was_encoded(fields: dict[str, Any]) -> None:
    """Json and orjson agree on every value and its type, and on nothing but the fields and the place."""
    expected = {**carried(fields), "audit.sequence.number": 1}
    for read in (json.loads, orjson.loads):
        assert same(read(whole(fields)), expected)


@settings(deadline=None, max_examples=200)
@given(FIELDS, st.randoms(use_true_random=False))
def test_the_bytes_depend_on_the_fields_alone(fields: dict[str, Any], random: Any) -> None:
    """Order of insertion, a common part and what was encoded before change no byte; names are in order."""
    names = list(fields)
    random.shuffle(names)
    half = {name: fields[name] for name in names[: len(names) // 2]}
    rest = {name: fields[name] for name in names[len(names) // 2 :]}
    assert encode({name: fields[name] for name in names}) == encode(fields)
    encoder = Common(half)
    encoder.encode({"other": 1})
    assert encoder.encode(rest) == encode(fields)
    keys = [key for key, _ in json.loads(whole(fields), object_pairs_hook=list)]
    assert keys == sorted([*fields, "audit.sequence.number"])


@settings(deadline=None)
@given(FIELDS)
def test_a_record_is_one_line_without_control_characters(fields: dict[str, Any]) -> None:
    """With any values, the bytes are UTF-8 without raw control characters, so without a line break."""
    text = whole(fields).decode()
    assert not any(ord(character) < 0x20 for character in text)


@settings(deadline=None, max_examples=200)
@given(FIELDS, NAMES, REFUSED, st.integers(0, 3))
def test_what_json_cannot_carry_is_refused_wherever_it_stands(
    fields: dict[str, Any], name: str, value: Any, depth: int
) -> None:
    """No null, NaN, bytes, lone surrogate or foreign key gets into a record, at any depth."""
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    with pytest.raises(EventError):
        encode({**fields, name: value})


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text(st.characters(), max_size=8), VALUES | st.text(st.characters()), max_size=8))
@example({"message": "x" * (2 * MAX_RECORD_BYTES)})
@example({f"own.{number}": "y" * 60 for number in range(20_000)})
def test_what_was_made_to_fit_is_encoded(fields: dict[str, Any]) -> None:
    """Fields of any size and text can be encoded after ``fit``, which names the changed ones."""
    fields = {name: value for name, value in fields.items() if not name.startswith("audit.sequence.")}
    before = dict(fields)
    changed = fit(fields)
    encoded = encode(fields)
    assert len(encoded.head) + len(encoded.tail) <= MAX_RECORD_BYTES
    assert changed == (fields != before) == (CUT in fields)


@settings(deadline=None, max_examples=200)
@given(
    UINT64,
    st.integers(1, 24),
    TEXTS,
    TEXTS,
    st.dictionaries(TEXTS, TEXTS | st.integers(-(2**63), 2**63 - 1)),
    st.data(),
)
def test_the_written_log_record_is_the_officially_encoded_one(
    time: int, severity: int, kind: str, body: str, attributes: dict[str, str | int], data: st.DataObject
) -> None:
    """The official classes parse every field, and serialize to the same meaning."""
    traced = data.draw(st.booleans())
    trace_id = data.draw(st.integers(1, 2**128 - 1)) if traced else 0
    span_id = data.draw(st.integers(0, 2**64 - 1)) if traced else 0
    raw = otlp.log_record(
        time=time,
        severity=severity,
        event_name=kind,
        body=body.encode(),
        attributes=b"".join(otlp.attribute(name, value) for name, value in attributes.items()),
        trace_id=trace_id,
        span_id=span_id,
    )
    read = LogRecord.FromString(raw)
    assert (read.time_unix_nano, read.observed_time_unix_nano) == (time, time)
    assert (read.severity_number, read.event_name, read.body.string_value) == (severity, kind, body)
    assert (int.from_bytes(read.trace_id), int.from_bytes(read.span_id)) == (trace_id, span_id)
    assert [pair.key for pair in read.attributes] == list(attributes)
    for pair, value in zip(read.attributes, attributes.values(), strict=True):
        field = "int_value" if isinstance(value, int) else "string_value"
        assert pair.value.WhichOneof("value") == field
        assert getattr(pair.value, field) == value
    assert LogRecord.FromString(read.SerializeToString()) == read


@settings(deadline=None)
@given(st.dictionaries(TEXTS, TEXTS | st.integers(-(2**63), 2**63 - 1)), TEXTS, st.lists(TEXTS, max_size=5))
def test_the_written_request_is_the_officially_encoded_one(
    resource: dict[str, str | int], scope: str, bodies: list[str]
) -> None:
    """Resource, scope and every record come back from the official classes, in order."""
    records = [
        otlp.log_record(time=1, severity=9, event_name="audit.x", body=body.encode(), attributes=b"")
        for body in bodies
    ]
    request = ExportLogsServiceRequest.FromString(otlp.Envelope(resource, scope, "1").request(records))
    (of_resource,) = request.resource_logs
    (of_scope,) = of_resource.scope_logs
    found = {p.key: p.value.int_value if p.value.HasField("int_value") else p.value.string_value
             for p in of_resource.resource.attributes}  # fmt: skip
    assert found == resource
    assert of_scope.scope.name == scope
    assert [record.body.string_value for record in of_scope.log_records] == bodies
