"""Events with any values, also hostile objects: one record each, or a counted fault; bytes as specified."""

from __future__ import annotations

import atexit
import json
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

from tests.fuzz.choices import Choices

import mlaudit
from mlaudit.catalog.names import PIPELINE_FAILURE
from mlaudit.errors import EventError
from mlaudit.event import Actor
from mlaudit.records.encode import MAX_RECORD_BYTES, PLACE_PREFIX, encode
from mlaudit.testing import AuditLog, capture

_NAMES = (
    "message", "ml.model.name", "ml.training.parameters", "labels", "user.name", "url.path", "ml.prediction.rows",
    "error.message", "a.b", "",
    "audit.kind", "audit.sequence.number", "audit.record.id", "@timestamp", "event.outcome", "\x1b[0m", "password",
    "é",
)  # fmt: skip
_KINDS = ("audit.ml.prediction", "audit.app.fuzz.tried", "audit.ml.training.completed", "audit.access.denied")


class Hostile:
    """Raises on every access."""

    def _fail(self, *_: Any) -> Any:
        raise ValueError("no")

    __str__ = __repr__ = __hash__ = __eq__ = __len__ = __iter__ = __bool__ = __float__ = __index__ = _fail


class HostileText(str):
    """A text that raises when it is read."""

    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError("no")

    def __len__(self) -> int:
        return -1


class HostileDict(dict):  # type: ignore[type-arg]
    """A mapping that raises on iteration."""

    def items(self) -> Any:
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        raise RuntimeError("no")


_OPEN = ExitStack()
_OWN = (PIPELINE_FAILURE, "audit.stream.", "audit.policy.")


@lru_cache(maxsize=1)
def audit_log() -> AuditLog:
    """One trail in memory for all runs; it ends with the process."""
    log = _OPEN.enter_context(capture(instrument=False))
    atexit.register(_OPEN.close)
    return log


def close_audit_log() -> None:
    """Ends the trail that all runs shared; the next run begins another."""
    _OPEN.close()
    audit_log.cache_clear()


def forget_records(log: AuditLog) -> None:
    """Discards earlier records."""
    log._payloads.clear()


def run(data: bytes) -> None:
    """Encodes the fields, then records an event with them."""
    choices = Choices(data)
    fields = {
        choices.pick(_NAMES) if choices.below(4) else choices.text(): _value(choices, 4)
        for _ in choices.some(8)
    }
    _encode(fields)
    _record(fields, choices)


def _encode(fields: dict[str, Any]) -> None:
    try:
        encoded = encode(fields)
    except EventError as error:
        assert str(error)
        return
    except (ValueError, RuntimeError) as error:
        assert str(error) == "no", "only an object's own fault may come out"
        return
    assert encode(fields) == encoded, "the same fields gave other bytes"
    whole = encoded.head + b'"audit.sequence.number":1' + encoded.tail
    pairs = json.loads(whole, object_pairs_hook=list, parse_constant=_no_constant)
    names = [name for name, _ in pairs]
    assert names == sorted({*fields, f"{PLACE_PREFIX}number"})


def _record(fields: dict[str, Any], choices: Choices) -> None:
    log = audit_log()
    forget_records(log)
    counts = log.pipeline.counts
    before = counts.faults + sum(counts.lost.values())
    mlaudit.record(
        choices.pick(_KINDS) if choices.below(4) else choices.text(),
        outcome=choices.pick(("success", "failure", choices.text())),
        target=choices.pick((None, choices.text(), ("report", choices.text()))),
        actor=choices.pick(
            (None, choices.text(), Actor(choices.text(), name=choices.text(), roles=(choices.text(),)))
        ),
        fields=fields,
        inputs={choices.text(): choices.json()} if choices.often() else None,
    )
    faults = counts.faults + sum(counts.lost.values()) - before
    made = 0
    for original in log.originals:
        assert len(original) <= MAX_RECORD_BYTES + 1024
        record = json.loads(original, parse_constant=_no_constant)
        assert list(record) == sorted(record)
        made += not record["audit.kind"].startswith(_OWN)
    assert made == 1 or faults, f"{made} records, and nothing counted"


def _value(choices: Choices, depth: int) -> Any:
    kind = choices.below(16)
    if kind < 8 or depth == 0:
        return choices.scalar()
    if kind == 8:
        return Hostile()
    if kind == 9:
        return HostileText(choices.text())
    if kind == 10:
        return HostileDict(a=1)
    if kind == 11:
        circular: list[Any] = [choices.scalar()]
        circular.append(circular)
        return circular
    if kind == 12:
        return choices.pick((b"bytes", {1, 2}, 1j, object(), type, len, {1: 2}, {None: 1}, range(3)))
    if kind == 13:
        return tuple(_value(choices, depth - 1) for _ in choices.some(3))
    if kind == 14:
        return [_value(choices, depth - 1) for _ in choices.some(4)]
    return {choices.text(): _value(choices, depth - 1) for _ in choices.some(4)}


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} in a record")
