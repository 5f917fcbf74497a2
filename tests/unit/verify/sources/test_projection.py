from __future__ import annotations

from typing import Any

import pytest

from mlaudit.verify.sources.projection import (
    ABSENT,
    Outside,
    compare_document,
    compare_outside,
    data_stream,
    same,
    shown,
)

FIELDS: dict[str, Any] = {
    "@timestamp": "2026-11-25T03:30:00.000000001Z",
    "event.outcome": "success",
    "event.category": ["api", "process"],
    "process.pid": 4711,
    "audit.policy.lowered": True,
    "ml.training.parameters": {"depth": 3, "nested": {"rate": 0.5}},
}


def document(**changes: Any) -> dict[str, Any]:
    """The searchable fields of FIELDS as the collector stores them, with changes."""
    stored = {**FIELDS, "process.pid": 4711.0, "event.original": "{}", "event.hash": "x", "event.sequence": 1}
    stored |= {"mlaudit.sender.address": "127.0.0.1", "data_stream.type": "logs", "event.ingested": "now"}
    return stored | {name.replace("__", "."): value for name, value in changes.items()}


def names(stored: dict[str, Any], fields: dict[str, Any] = FIELDS) -> list[str]:
    """Names of the differing fields."""
    return [difference.name for difference in compare_document(stored, fields)]


def test_faithful_projection_has_no_difference() -> None:
    """Doubles for integers and fields that the collector adds are no differences."""
    assert names(document()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event.outcome", "failure"),
        ("event.outcome", None),
        ("event.category", ["process", "api"]),
        ("event.category", ["api"]),
        ("event.category", "api"),
        ("process.pid", 4712.0),
        ("process.pid", "4711"),
        ("audit.policy.lowered", 1.0),
        ("audit.policy.lowered", False),
        ("ml.training.parameters", {"depth": 3.0, "nested": {"rate": 0.25}}),
        ("ml.training.parameters", {"depth": 3.0}),
        ("@timestamp", "2026-11-25T03:30:00.000000002Z"),
        ("user.name", "eve"),
    ],
)
def test_changed_or_added_field_is_a_difference(name: str, value: Any) -> None:
    """Another value, another type, another order and an extra field are each named."""
    assert names({**document(), name: value}) == [name]


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_missing_field_is_a_difference(name: str) -> None:
    """A field that is no longer searchable is reported."""
    stored = document()
    del stored[name]

    assert compare_document(stored, FIELDS) == [(name, shown(FIELDS[name]), ABSENT)]


def test_contents_may_be_in_the_original_alone() -> None:
    """A body that the mapping does not index may be absent, but not different."""
    fields = {**FIELDS, "http.request.body.content": "secret"}

    assert names(document(), fields) == []
    assert names(document(http__request__body__content="secret"), fields) == []
    assert names(document(http__request__body__content="other"), fields) == ["http.request.body.content"]


@pytest.mark.parametrize(
    "name",
    [
        "event",
        "mlaudit.sender.id",
        "data_stream.type",
        "_id",
        "",
        "a..b",
        ".a",
        "a.",
        "service",
        "audit.stream",
    ],
)
def test_names_that_the_collector_refuses_may_be_absent(name: str) -> None:
    """Names that the collector removes from a body on purpose are no difference."""
    assert names(document(), {**FIELDS, name: "x"}) == []


def test_time_may_be_replaced_only_where_it_was_no_time() -> None:
    """The collector's mark for a replaced time is ignored when the original's time is valid."""
    odd = {**FIELDS, "@timestamp": "yesterday"}

    assert names(document(mlaudit__retimed=True), odd) == []
    assert names({**document(mlaudit__retimed=True), "@timestamp": "other"}) == ["@timestamp"]
    assert names(document(), odd) == ["@timestamp"]


def test_attributes_repeat_the_body() -> None:
    """Audit attributes and the event name must equal the body's values; empty ones are ignored."""
    fields = {"audit.kind": "audit.ml.prediction", "audit.outcome": "success", "audit.sequence.number": 3}
    good: dict[str, str | int] = {
        "audit.outcome": "success",
        "audit.target.id": "",
        "audit.integrity.value": "h",
    }

    assert compare_outside(Outside(good, "audit.ml.prediction"), fields) == []
    assert [
        d.name for d in compare_outside(Outside({**good, "audit.outcome": "failure"}, "audit.x"), fields)
    ] == [
        "audit.outcome",
        "EventName",
    ]


def test_what_stands_around_an_original_repeats_it() -> None:
    """Time, trace, scope and the mandatory attributes must be present and match."""
    fields = {
        "@timestamp": "2026-11-25T03:30:00.123456789Z",
        "audit.kind": "k",
        "audit.actor.id": "a",
        "trace.id": "t",
        "span.id": "s",
    }
    good = Outside({"audit.actor.id": "a"}, "k", 1795577400123456789, "t", "s")

    def names(outside: Outside) -> list[str]:
        return [difference.name for difference in compare_outside(outside, fields)]

    assert names(good) == []
    assert names(good._replace(time=0, trace_id="", span_id="")) == []  # not every backend keeps them
    assert names(good._replace(attributes={})) == ["audit.actor.id"]
    assert names(good._replace(time=1795577400123456788)) == ["Timestamp"]
    assert names(good._replace(trace_id="x", span_id="x", scope="x")) == [
        "InstrumentationScope",
        "TraceId",
        "SpanId",
    ]


def test_a_document_says_where_it_lies() -> None:
    """The data stream that a document names must be the one it is in, or that of its record."""
    place = {
        "data_stream.type": "logs",
        "data_stream.dataset": "mlaudit.access",
        "data_stream.namespace": "prod",
    }
    fields = {"event.dataset": "mlaudit.access"}

    def names(class_: str, space: str, **other: str) -> list[str]:
        source = {**place, **fields, **{name.replace("__", "."): value for name, value in other.items()}}
        return [difference.name for difference in compare_document(source, fields, class_, space)]

    assert names("access", "prod") == []
    assert names("", "", data_stream__dataset="anything") == []
    assert names("access", "prod", data_stream__dataset="mlaudit.change") == ["data_stream.dataset"]
    assert names("access", "test") == ["data_stream.namespace"]
    assert names("access", "prod", data_stream__type="metrics") == ["data_stream.type"]


@pytest.mark.parametrize(
    ("index", "parts"),
    [
        (".ds-logs-mlaudit.access-default-2026.11.25-000001", ("access", "default")),
        ("partial-.ds-logs-mlaudit.change-eu-west-1-2026.11.25-000012", ("change", "eu-west-1")),
        ("somewhere", ("", "")),
    ],
)
def test_an_index_names_its_data_stream(index: str, parts: tuple[str, str]) -> None:
    """The data stream is derived from an index name, also of a mounted snapshot; other names give none."""
    assert data_stream(index) == parts


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (2, 2.0, True),
        (True, 1, False),
        (0, False, False),
        ("2", 2, False),
        ([1, [2]], [1.0, [2.0]], True),
        ({}, [], False),
    ],
)
def test_values_are_compared_as_json(one: Any, other: Any, equal: bool) -> None:
    """Numbers by value, everything else by type and value."""
    assert same(one, other) is equal


def test_long_values_are_cut() -> None:
    """Long values in a finding are truncated."""
    assert len(shown("x" * 1_000_000)) < 1100


def test_deep_nesting_is_compared_and_shown() -> None:
    """A document that nests deeper than Python's recursion limit is checked like any other."""

    def nested(depth: int, innermost: int) -> dict[str, object]:
        value: object = innermost
        for _ in range(depth):
            value = {"a": value}
        return {"labels": value}

    assert compare_document(nested(5000, 1), nested(5000, 1)) == []
    (found,) = compare_document(nested(5000, 2), nested(5000, 1))
    assert (found.name, found.expected) == ("labels", "(nested too deeply to show)")
