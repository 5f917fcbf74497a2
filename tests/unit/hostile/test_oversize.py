"""Values that are much too long, much too many or much too deep: one bounded record each, with its omissions."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

import mlaudit
from mlaudit.capture.process.config_keys import flat_keys
from mlaudit.event import Actor
from mlaudit.policy.load import inspect_policy
from mlaudit.records.encode import MAX_RECORD_BYTES
from mlaudit.records.fit import CUT
from mlaudit.testing import AuditLog, capture

MILLION = 1_000_000
# Longer texts are replaced by their length and a digest before a record is made.
LONG = 950_000
KIND = "audit.ml.training.completed"
# What a loaded machine may take; a quiet one needs a tenth.
SECONDS = 20.0


def nested(depth: int) -> Any:
    """Lists and mappings in each other."""
    value: Any = "the bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def recorded(log: AuditLog, **arguments: Any) -> dict[str, Any]:
    """Records one event and returns its record, which no receiver would refuse for its size."""
    mlaudit.record(KIND, **arguments)
    (record,) = log.of(KIND)
    assert len(log.originals[-1]) <= MAX_RECORD_BYTES
    assert len(log.payloads[-1]) <= 2 * MAX_RECORD_BYTES
    assert not log.pipeline.counts.lost
    return record


CASES: dict[str, dict[str, Any]] = {
    "a text of 10 MB": {"fields": {"error.message": "x" * (10 * MILLION)}},
    "a text of 10 MB of control characters": {"fields": {"error.message": "\x01" * (10 * MILLION)}},
    "a path of a million characters": {"fields": {"url.path": "/" + "a" * MILLION}},
    "a model name of a million characters": {"fields": {"ml.model.name": "m" * MILLION}},
    "an actor of a million characters": {
        "actor": Actor("u" * MILLION, name="n" * MILLION, roles=("r" * MILLION,))
    },
    "a target of a million characters": {"target": ("model", "t" * MILLION)},
    "100,000 labels": {"fields": {"labels": {f"k{number}": "v" * 20 for number in range(100_000)}}},
    "100,000 hyper-parameters": {"fields": {"ml.training.parameters": {f"k{n}": n for n in range(100_000)}}},
    "100,000 fields of its own": {"fields": {f"labels.k{number}": "v" * 20 for number in range(100_000)}},
    "a million roles": {"actor": Actor("alice", roles=("r",) * MILLION)},
    "inputs of 10 MB": {"inputs": {"ml.prediction.input": [[1.5] * 1000 for _ in range(2000)]}},
}


@pytest.mark.parametrize("name", CASES)
def test_an_event_that_is_too_large_is_recorded_all_the_same(name: str) -> None:
    """One record, within the bound, of the right kind and outcome, in bounded time; nothing is lost."""
    started = time.process_time()
    with capture(instrument=False) as log:
        record = recorded(log, outcome="failure", **CASES[name])
    assert time.process_time() - started < SECONDS
    assert record["event.outcome"] == "failure"
    assert "audit.failed" not in record


def test_what_was_cut_is_named_and_the_rest_stays() -> None:
    """Cut fields are listed, their beginning and length stay, and short fields are untouched."""
    with capture(instrument=False) as log:
        record = recorded(
            log,
            target=("model", "t" * LONG),
            fields={"ml.model.name": "fraud", "ml.training.run_id": "r" * LONG, "ml.model.version": "3"},
        )
    assert {"ml.training.run_id", "audit.target.id"} <= set(record[CUT])
    assert record["ml.training.run_id"] == "r" * 1000 + "… (950000 characters)"
    assert (record["ml.model.name"], record["ml.model.version"]) == ("fraud", "3")
    assert record["audit.target.type"] == "model"


def test_an_ordinary_record_is_not_said_to_be_cut() -> None:
    """Only records that lack something carry the mark."""
    with capture(instrument=False) as log:
        assert CUT not in recorded(log, fields={"ml.model.name": "fraud"})


@pytest.mark.parametrize("text", ["\ud800", "caf\udce9.joblib", "\udfff\ud800"])
def test_text_that_is_no_unicode_is_written_out(text: str) -> None:
    """Lone surrogates, as file names that are no UTF-8 give them, cost a record nothing but their spelling."""
    with capture(instrument=False) as log:
        record = recorded(log, fields={"ml.model.name": text, "ml.model.version": "3"})
    assert record["ml.model.name"] == text.encode("utf-8", "backslashreplace").decode()
    assert record["ml.model.version"] == "3"
    assert record[CUT] == ["ml.model.name"]


@pytest.mark.parametrize("field", ["labels", "ml.training.parameters", "ml.prediction.input", "app.own"])
def test_a_thousand_levels_of_nesting_are_recorded(field: str) -> None:
    """Nesting beyond the bound is cut with a mark; the record is there."""
    with capture(instrument=False) as log:
        record = recorded(log, fields={field: nested(1000)})
    assert "too deep" in orjson.dumps(record[field]).decode()


def test_a_thousand_levels_in_a_configuration_file_are_a_change_all_the_same() -> None:
    """A file that is nested too deep has no keys to show, in whatever format, and does not raise."""
    deep = {
        "x.json": b"[" * 1000 + b"]" * 1000,
        "y.json": b"[" * 100_000,
        "x.yaml": b"[" * 1000 + b"]" * 1000,
        "x.toml": b"a = " + b"[" * 1000 + b"]" * 1000,
    }
    for name, content in deep.items():
        assert flat_keys(name, content) is None


def test_100_000_keys_in_a_configuration_file_are_not_looked_at_one_by_one() -> None:
    """A file with more keys than a person can look at has none to show."""
    content = orjson.dumps({f"k{number}": number for number in range(100_000)})
    assert flat_keys("x.json", content) is None
    assert flat_keys("x.json", content[:1000] + b" " * (2 << 20)) is None


def test_a_policy_of_a_thousand_levels_is_a_fault() -> None:
    """A policy file is refused with a line, not with a stack that overflows."""
    for text in ("[" * 1000 + "]" * 1000, "a:\n" + "".join(" " * n + "a:\n" for n in range(1000))):
        assert inspect_policy(text).faults
