"""Alert documents of Kibana's detection engine, read field by field."""

from __future__ import annotations

from typing import Any

import pytest

from mlaudit.detect.kibana import kibana_event, value_of
from mlaudit.event import Target

RECORD = "019ab8a1-7c3e-7d20-9a51-0f4c2b9e6d11"


@pytest.mark.parametrize(
    "source",
    [
        {"kibana.alert.rule.name": "x"},
        {"kibana": {"alert": {"rule": {"name": "x"}}}},
        {"kibana.alert": {"rule.name": "x"}},
        {"kibana": {"alert.rule": {"name": "x"}}},
        {"kibana": "text", "kibana.alert": {"rule": {"name": "x"}}},
    ],
)
def test_field_is_found_however_it_is_written(source: dict[str, Any]) -> None:
    """Dotted, as objects, or a mixture."""
    assert value_of(source, "kibana.alert.rule.name") == "x"
    assert value_of(source, "kibana.alert.rule.uuid") is None


def test_records_come_from_copy_and_ancestors() -> None:
    """Only documents of the audit trail are named, each once."""
    other = RECORD.replace("019", "01a")
    ancestors = [
        {"id": f"{other}-{'0' * 32}", "index": ".ds-logs-mlaudit.access-default-2026.11.25-000001"},
        {"id": f"{RECORD}-{'1' * 32}", "index": ".ds-logs-mlaudit.access-default-2026.11.25-000001"},
        {"id": f"{RECORD}-{'1' * 32}", "index": ".ds-logs-other-default-2026.11.25-000001"},
        {"id": "5" * 64, "index": "logs-mlaudit.*"},
    ]
    event = kibana_event({"audit.record.id": RECORD, "kibana.alert.ancestors": ancestors}, "a")
    assert event.fields["audit.detection.records"] == [RECORD, other]


@pytest.mark.parametrize(
    ("score", "level", "severity"),
    [(73.4, "low", 73), (101, "high", 73), (True, "medium", 47), (None, "critical", 99), (None, "?", 0)],
)
def test_severity_is_the_score_or_follows_from_the_level(score: Any, level: str, severity: int) -> None:
    """A score outside of 0 to 100 is ignored."""
    source = {"kibana.alert.risk_score": score, "kibana.alert.severity": level}
    assert kibana_event(source, "a").fields["event.severity"] == severity


def test_time_is_the_alerts_own() -> None:
    """The record says when the alert was raised, not when it was read."""
    event = kibana_event({"@timestamp": "2026-11-25T03:30:00.123Z"}, "a")
    assert event.timestamp == 1_795_577_400_123_000_000
    assert event.target == Target("rule", "unnamed rule")
