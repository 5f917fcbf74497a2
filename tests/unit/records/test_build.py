from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlaudit.errors import EventError
from mlaudit.event import SERVICE, Actor, AuditEvent, Target
from mlaudit.records.build import RecordBuilder
from mlaudit.records.encode import encode
from mlaudit.rfc3339 import from_nanoseconds


class Keep:
    """Redacts nothing."""

    def apply(self, fields: dict[str, Any]) -> list[str]:
        """Keep all."""
        return []


class Hide:
    """Replaces user ids and drops host names."""

    def apply(self, fields: dict[str, Any]) -> list[str]:
        """Hide them."""
        for name in ("user.id", "audit.actor.id"):
            if name in fields:
                fields[name] = "hidden"
        fields.pop("host.name", None)
        return []


@dataclass
class Decision:
    """A decision of no policy."""

    level: int = 1
    redaction: Any = field(default_factory=Keep)
    rule: str = "r"
    guarantee: str = "buffered"
    retention: str = "standard"


COMMON = {"service.name": "svc", "host.name": "box", "process.pid": 1}


def build(event: AuditEvent, decision: Decision | None = None) -> dict[str, Any]:
    """The record of one event in a process of its own, as a reader decodes it."""
    encoded = RecordBuilder(COMMON).build(event, decision or Decision()).encode()
    record: dict[str, Any] = json.loads(encoded.head + b'"audit.sequence.number":1' + encoded.tail)
    del record["audit.sequence.number"]
    return record


def test_record_says_who_did_what_to_what() -> None:
    """A record names its kind, actor, action, target, outcome, time and place in ECS and audit fields."""
    event = AuditEvent(
        "audit.ml.prediction",
        actor=Actor("alice", name="Alice", roles=("analyst",)),
        target=Target("model", "fraud@3"),
        fields={"ml.model.name": "fraud"},
        timestamp=1_795_577_400_123_456_789,
        trace_id=0xABC,
        span_id=0xDEF,
    )
    record = build(event)
    assert record["@timestamp"] == "2026-11-25T03:30:00.123456789Z"
    assert record["audit.kind"] == "audit.ml.prediction"
    assert record["event.dataset"] == "mlaudit.prediction"
    assert (record["audit.actor.id"], record["user.id"], record["user.name"]) == ("alice", "alice", "Alice")
    assert record["user.roles"] == ["analyst"]
    assert (record["audit.target.type"], record["audit.target.id"]) == ("model", "fraud@3")
    assert record["event.id"] == record["audit.record.id"] == event.record_id
    assert record["trace.id"] == "00000000000000000000000000000abc"
    assert record["span.id"] == "0000000000000def"
    assert record["related.user"] == ["alice", "Alice"]
    assert "alice" in record["message"]
    encode(record)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1, set()), (2, {"ml.prediction.input"}), (3, {"ml.prediction.input", "ml.prediction.output"})],
)
def test_level_decides_on_contents(level: int, expected: set[str]) -> None:
    """Inputs appear from level inputs on, outputs only at level full."""
    event = AuditEvent(
        "audit.ml.prediction", inputs={"ml.prediction.input": "i"}, outputs={"ml.prediction.output": "o"}
    )
    record = build(event, Decision(level=level))
    assert {name for name in record if name.startswith("ml.prediction.")} == expected


def test_nothing_redacted_comes_back_in_derived_fields() -> None:
    """The message and the related fields are built from redacted values."""
    event = AuditEvent("audit.ml.prediction", actor=Actor("alice"), fields={"ml.model.name": "m"})
    record = build(event, Decision(redaction=Hide()))
    assert "alice" not in repr(record)
    assert record["related.user"] == ["hidden"]
    assert "host.name" not in record


def test_events_do_not_share_their_fields() -> None:
    """Building one record changes neither the event nor the next record."""
    builder = RecordBuilder(COMMON)
    event = AuditEvent("audit.ml.prediction", actor=Actor("alice"), fields={"ml.model.name": "m"})
    builder.build(event, Decision(redaction=Hide())).own["x"] = "y"
    assert event.fields == {"ml.model.name": "m"}
    assert "x" not in builder.build(AuditEvent("audit.ml.prediction"), Decision()).own


def test_anonymous_is_no_user() -> None:
    """An anonymous actor gives no user fields."""
    event = AuditEvent("audit.api.request", actor=Actor("anonymous", method="anonymous"))
    record = build(event, Decision(redaction=Hide()))
    assert "user.id" not in record
    assert record["audit.actor.id"] == "anonymous"


def test_unknown_kind_is_refused_and_custom_kinds_are_not() -> None:
    """A kind outside the catalog is refused unless it is the application's own."""
    with pytest.raises(EventError, match="audit.made.up"):
        build(AuditEvent("audit.made.up"))
    assert build(AuditEvent("audit.app.report.exported"))["audit.kind"] == "audit.app.report.exported"


def test_times_are_right_on_many_threads() -> None:
    """The cached second never leaks from one thread into another's time."""
    wrong: list[str] = []

    def check(second: int) -> None:
        for _ in range(3000):
            text = from_nanoseconds(second * 1_000_000_000 + 5)
            if text != f"1970-01-01T00:00:{second:02d}.000000005Z":
                wrong.append(text)

    threads = [threading.Thread(target=check, args=(second,)) for second in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_service_is_no_person() -> None:
    """The name of a service or of mlaudit itself is not pseudonymised, and gives no user fields."""
    event = AuditEvent("audit.service.started", actor=Actor("fraud-service", SERVICE, method="process"))
    record = build(event, Decision(redaction=Hide()))
    assert record["audit.actor.id"] == "fraud-service"
    assert "user.id" not in record
