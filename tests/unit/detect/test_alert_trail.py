"""Alerts become sealed records, each once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlaudit.detect.alert_trail import AlertTrail
from mlaudit.detect.compiled_rule import Alert
from mlaudit.detect.events import about_alerts, alert_event, finding_key, record_alerts
from mlaudit.errors import SourceError, SpoolError
from mlaudit.event import AuditEvent, Target
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.settings import Settings
from mlaudit.verify.repair.originals import read_spool
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.sources.spool_source import read_log_record
from mlaudit.verify.verification import verify_source

NOW = datetime(2026, 11, 25, 3, 30, tzinfo=UTC)
FLOOD = Alert(
    rule_id="5f5b8ad3-a330-4515-befd-bd948ec34055",
    rule="prediction-flood",
    title="ML Prediction Flood By One Actor",
    level="high",
    count=204,
    group={"audit.actor.id": "hmac:3fa1c07b:9b74c9897bac770ffc029102a200c5de"},
    entities={"source.ip": ["192.0.2.0"], "audit.kind": ["audit.ml.prediction"]},
    first="2026-11-25T03:20:00.000000000Z",
    last="2026-11-25T03:22:30.500000000Z",
    records=("019ab8a1-7c3e-7d20-9a51-0f4c2b9e6d11",),
)
WEAKENED = replace(
    FLOOD, rule_id="a5abf1bb-b769-4d56-bac6-9142de113163", rule="audit-trail-weakened", group={}, count=1
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A state folder of the test's own, and no collector."""
    return Settings.from_env(
        {
            "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
            "MLAUDIT_ENDPOINT": "http://127.0.0.1:9/v1/logs",
            "MLAUDIT_SHUTDOWN_SECONDS": "0",
        }
    )


def records(settings: Settings) -> list[dict[str, Any]]:
    """The alert records in the spool."""
    found = []
    for original in read_spool(settings.spool_dir, lambda *_: True):
        parsed = read_log_record(original.payload)
        assert parsed is not None
        fields = json.loads(parsed[0])
        if fields["audit.kind"] == "audit.detection.alert":
            found.append(fields)
    return found


def test_alert_becomes_a_sealed_record(settings: Settings) -> None:
    """The record names rule, severity, whom and what it is about, and the records behind it; its chain holds."""
    with AlertTrail(settings, "rules") as trail:
        assert record_alerts(trail, [FLOOD], NOW) == 1
    (record,) = records(settings)
    assert {
        "event.kind": "alert",
        "event.dataset": "mlaudit.integrity",
        "service.name": "mlaudit-detect",
        "rule.id": FLOOD.rule_id,
        "rule.name": "ML Prediction Flood By One Actor",
        "event.severity": 73,
        "audit.target.type": "actor",
        "audit.target.id": FLOOD.group["audit.actor.id"],
        "audit.actor.id": "detection",
        "audit.detection.engine": "mlaudit",
        "audit.detection.records": list(FLOOD.records),
    }.items() <= record.items()
    assert "204 records from 2026-11-25T03:20:00.000000000Z" in record["event.reason"]
    assert verify_source(open_source(settings.spool_dir), None).ok


def test_alert_is_recorded_once_over_runs(settings: Settings) -> None:
    """The same finding, or a continued sequence, in a later run is no new record; another sequence is one."""
    with AlertTrail(settings, "rules") as trail:
        assert record_alerts(trail, [FLOOD, WEAKENED], NOW) == 2
    longer = replace(FLOOD, count=300, last="2026-11-25T03:29:00.000000000Z")
    more = replace(WEAKENED, count=2, last="2026-11-25T03:29:00.000000000Z")
    with AlertTrail(settings, "rules") as trail:
        assert trail.position == "2026-11-25T03:30:00.000000+00:00"
        assert record_alerts(trail, [FLOOD, WEAKENED, longer], NOW) == 0
        assert record_alerts(trail, [more], NOW) == 1
    assert len(records(settings)) == 3


def test_nothing_new_opens_no_stream(settings: Settings) -> None:
    """A run without a new alert writes no record at all."""
    with AlertTrail(settings, "rules") as trail:
        record_alerts(trail, [], NOW)
    assert not settings.spool_dir.exists()


def test_crash_between_record_and_memory_repeats_the_record_under_its_id(settings: Settings) -> None:
    """At least once: the repeated record has the id of the first."""
    with AlertTrail(settings, "rules") as trail:
        record_alerts(trail, [FLOOD], NOW)
    memory = settings.state_dir / "detection" / "rules.jsonl"
    memory.write_bytes(memory.read_bytes().splitlines()[0][:20])  # the line that the crash cut short
    with AlertTrail(settings, "rules") as trail:
        assert record_alerts(trail, [FLOOD], NOW) == 1
        assert record_alerts(trail, [FLOOD], NOW) == 0
    first, second = records(settings)
    assert first["audit.record.id"] == second["audit.record.id"]
    assert first["audit.sequence.stream_id"] != second["audit.sequence.stream_id"]


def test_alert_that_could_not_be_stored_is_not_remembered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails with an error, keeps its position, and the next one records the alert."""
    with monkeypatch.context() as broken:
        broken.setattr(Pipeline, "_ready_stream", lambda _: (_ for _ in ()).throw(SpoolError("full")))
        with AlertTrail(settings, "rules") as trail, pytest.raises(SpoolError, match="could not be recorded"):
            record_alerts(trail, [FLOOD], NOW)
    with AlertTrail(settings, "rules") as trail:
        assert trail.position == ""
        assert record_alerts(trail, [FLOOD], NOW) == 1


def test_two_processes_do_not_record_the_same_alerts(settings: Settings) -> None:
    """The second process is refused; a process for another source of alerts is not affected."""
    with (
        AlertTrail(settings, "rules"),
        pytest.raises(SourceError, match="another process"),
        AlertTrail(settings, "rules"),
    ):
        pass
    with AlertTrail(settings, "rules"), AlertTrail(settings, "kibana-default"):
        pass


def test_position_only_grows(settings: Settings) -> None:
    """A run over older alerts does not make the next one start earlier."""
    with AlertTrail(settings, "rules") as trail:
        record_alerts(trail, [], NOW)
        record_alerts(trail, [], NOW - timedelta(hours=1))
        record_alerts(trail, [])
        assert trail.position.startswith("2026-11-25T03:30")


def test_alert_about_alerts_is_not_recorded(settings: Settings) -> None:
    """A rule that fires on records of alerts would otherwise fire forever."""
    loop = replace(FLOOD, entities={"audit.kind": ["audit.detection.alert"]})
    assert about_alerts(loop)
    assert not about_alerts(FLOOD)
    with AlertTrail(settings, "rules") as trail:
        assert record_alerts(trail, [loop], NOW) == 0


@pytest.mark.parametrize(
    ("group", "entities", "target"),
    [
        ({"source.ip": "192.0.2.1"}, {"audit.actor.id": ["a"]}, Target("source", "192.0.2.1")),
        ({}, {"audit.actor.id": ["a"]}, Target("actor", "a")),
        ({}, {"audit.actor.id": ["a", "b"], "ml.model.name": ["m"]}, Target("model", "m")),
        ({}, {}, Target("rule", "prediction-flood")),
    ],
)
def test_target_is_whom_the_alert_is_about(
    group: dict[str, str], entities: dict[str, list[str]], target: Target
) -> None:
    """The target is a value that the records share, or else the rule."""
    assert alert_event(replace(FLOOD, group=group, entities=entities)).target == target


def test_key_is_the_findings() -> None:
    """Group and rule are parts of it; hostile text in them cannot make two findings one."""
    keys = {
        finding_key(FLOOD),
        finding_key(replace(FLOOD, group={"audit.actor.id": 'x", "2026'})),
        finding_key(replace(FLOOD, group={"audit.actor.id": "x"})),
        finding_key(replace(FLOOD, rule_id="other")),
    }
    assert len(keys) == 4


def test_odd_address_is_left_out() -> None:
    """An invalid address would make Elasticsearch reject the record."""
    event = alert_event(replace(FLOOD, entities={"source.ip": ["not an address"]}))
    assert isinstance(event, AuditEvent)
    assert "source.ip" not in event.fields
