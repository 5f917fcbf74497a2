"""Alerts come back as audit records, through the real collector into the real Elasticsearch.

Kibana does not run here: its alerts are a fake, documents of the documented alert schema in the index that its
detection engine writes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from tests.conftest import wait_for
from tests.namespace import Namespace
from tools.generators.detection_cases import Case

from mlaudit import cli
from mlaudit.catalog.load import load_catalog
from mlaudit.detect import run_rules
from mlaudit.detect.alert_trail import AlertTrail
from mlaudit.detect.kibana import record_new
from mlaudit.install.apply import install
from mlaudit.settings import Settings
from mlaudit.stack import Stack

pytestmark = pytest.mark.stack

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
RECORD = "019ab8a1-7c3e-7d20-9a51-0f4c2b9e6d11"


@pytest.fixture
def environment(
    stack: Stack, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Where alerts are read and where their records go."""
    user, password = stack.reader_auth
    variables = {
        "MLAUDIT_ES_USERNAME": user,
        "MLAUDIT_ES_PASSWORD": password,
        "MLAUDIT_ES_CA_FILE": str(stack.ca_file),
        "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
        "MLAUDIT_SERVICE_NAME": service,
        "MLAUDIT_ENDPOINT": f"{stack.otlp_endpoint}/v1/logs",
        "MLAUDIT_TOKEN_FILE": str(stack.token_file),
        "MLAUDIT_SHUTDOWN_SECONDS": "30",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def reader(stack: Stack) -> Iterator[Elasticsearch]:
    """A client that may only read audit records and alerts."""
    trust = str(stack.ca_file) if stack.ca_file else None
    with Elasticsearch(stack.elasticsearch_url, basic_auth=stack.reader_auth, ca_certs=trust) as client:
        yield client


@pytest.fixture
def namespace(stack: Stack, elasticsearch: Elasticsearch, reader: Elasticsearch) -> Iterator[Namespace]:
    """Fresh data streams, emptied afterwards."""
    install(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file)
    fresh = Namespace(elasticsearch, reader)
    yield fresh
    fresh.empty()


@pytest.fixture
def space(elasticsearch: Elasticsearch) -> Iterator[str]:
    """A Kibana space for this test, with the index that its detection engine would create."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    index = f".internal.alerts-security.alerts-{name}-000001"
    keyword = {"type": "keyword"}
    elasticsearch.indices.create(
        index=index,
        settings={"index.hidden": True},
        mappings={
            "dynamic": False,
            "properties": {
                "@timestamp": {"type": "date"},
                "kibana.alert.uuid": keyword,
                "kibana.alert.rule.tags": keyword,
            },
        },
        aliases={f".alerts-security.alerts-{name}": {"is_write_index": True}},
    )
    yield name
    elasticsearch.indices.delete(index=index)


def alert(at: datetime, **changes: Any) -> dict[str, Any]:
    """An alert document as the detection engine writes it (Elastic, "Alert schema")."""
    return {
        "@timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kibana.alert.uuid": uuid.uuid4().hex,
        "kibana.alert.rule.name": "ML Audit Record Sent In The Name Of Another Service",
        "kibana.alert.rule.rule_id": "6d0f4c1e-52a7-4f0b-9c37-1f6a8d0e94b2",
        "kibana.alert.rule.uuid": str(uuid.uuid4()),
        "kibana.alert.rule.tags": ["Domain: ML", "Data Source: mlaudit", "Policy: 4.2"],
        "kibana.alert.severity": "high",
        "kibana.alert.risk_score": 73,
        "kibana.alert.status": "active",
        "kibana.alert.workflow_status": "open",
        "kibana.alert.depth": 1,
        "kibana.alert.reason": "event on node-3 created high alert ML Audit Record Sent In Another Name.",
        "kibana.alert.original_time": "2026-11-24T12:00:00.000Z",
        "kibana.alert.ancestors": [
            {
                "id": f"{RECORD}-{'0' * 32}",
                "type": "event",
                "index": ".ds-logs-mlaudit.prediction-default-2026.11.24-000001",
                "depth": 0,
            }
        ],
        "kibana.space_ids": ["default"],
        "audit.kind": "audit.ml.prediction",
        "source": {"ip": "192.0.2.17"},
        "audit": {"actor": {"id": "hmac:3fa1c07b:9b74c9897bac770ffc029102a200c5de"}},
    } | changes


def put(elasticsearch: Elasticsearch, space: str, *alerts: dict[str, Any]) -> None:
    """Stores an alert as the detection engine does."""
    for one in alerts:
        elasticsearch.index(
            index=f".alerts-security.alerts-{space}", id=one["kibana.alert.uuid"], document=one, refresh=True
        )


def mlaudit(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command; its exit code."""
    monkeypatch.setattr("sys.argv", ["mlaudit", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def recorded(elasticsearch: Elasticsearch, service: str, count: int) -> list[dict[str, Any]]:
    """The stored records of alerts of this test's service, once there are ``count``."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        elasticsearch.indices.refresh(index="logs-mlaudit.*")
        filters = [{"term": {"service.name": service}}, {"term": {"audit.kind": "audit.detection.alert"}}]
        answer = elasticsearch.search(
            index="logs-mlaudit.*", query={"bool": {"filter": filters}}, sort="@timestamp", size=100
        )
        found[:] = [hit["_source"] for hit in answer["hits"]["hits"]]
        return len(found) >= count

    wait_for(there, f"{count} records of alerts")
    assert len(found) == count
    return found


def test_detect_records_its_alerts_once(
    stack: Stack,
    namespace: Namespace,
    environment: dict[str, str],
    service: str,
    elasticsearch: Elasticsearch,
    reader: Elasticsearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood is one sealed record, however often it is found; no rule fires on the record of an alert."""
    flood = {"kind": "audit.ml.prediction", "repeat": 200, "every": 0.5, "set": {"audit.actor.id": "mallory"}}
    bodies = list(Case("flood", "record", 1, ({**flood},)).bodies(load_catalog(), START))
    namespace.store(bodies)
    began = datetime.now(UTC)
    since = (START - timedelta(days=1)).isoformat()
    where = ["--elasticsearch", stack.elasticsearch_url, "--index", namespace.index]
    for _ in range(2):
        command = ["detect", "--once", "--record", *where, "--since", since]
        assert mlaudit(monkeypatch, *command) == 1
    (record,) = recorded(elasticsearch, service, 1)
    assert record["rule.name"] == "ML Prediction Flood By One Actor"
    assert (record["audit.target.type"], record["audit.target.id"]) == ("actor", "mallory")
    assert record["audit.detection.records"] == [body["audit.record.id"] for body in bodies[:5]]
    assert record["event.severity"] == 73
    assert record["event.kind"] == "alert"
    assert "audit.sequence.stream_id" in record
    alerts = run_rules(reader, began, datetime.now(UTC) + timedelta(minutes=1))
    assert not [one for one in alerts if record["audit.record.id"] in one.records]


def test_a_run_begins_where_the_last_recorded_one_ended(
    stack: Stack,
    namespace: Namespace,
    environment: dict[str, str],
    service: str,
    elasticsearch: Elasticsearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records that arrived while the timer did not run are found, although --since alone does not cover them."""
    where = ["--elasticsearch", stack.elasticsearch_url, "--index", namespace.index]
    calm = ({"kind": "audit.ml.prediction"},)
    namespace.store(Case("calm", "calm", 0, calm).bodies(load_catalog(), START))
    with AlertTrail(Settings.from_env(), "rules") as trail:
        trail.reach((START - timedelta(hours=1)).isoformat())
    failure = ({"kind": "audit.pipeline.failure"},)
    namespace.store(Case("late", "late", 1, failure).bodies(load_catalog(), START))
    assert mlaudit(monkeypatch, "detect", "--once", *where, "--since", "15m") == 0
    assert mlaudit(monkeypatch, "detect", "--once", "--record", *where, "--since", "15m") == 1
    (record,) = recorded(elasticsearch, service, 1)
    assert record["rule.id"] == "a5abf1bb-b769-4d56-bac6-9142de113163"


def test_kibanas_alerts_become_records(
    stack: Stack,
    space: str,
    environment: dict[str, str],
    service: str,
    elasticsearch: Elasticsearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each alert of mlaudit's rules is recorded once, with rule, severity, source, actor and the records behind it."""
    now = datetime.now(UTC)
    first = alert(now - timedelta(minutes=5))
    foreign = alert(now, **{"kibana.alert.rule.tags": ["Domain: Endpoint"]})
    about_alerts = alert(now, **{"audit.kind": "audit.detection.alert"})
    put(elasticsearch, space, first, foreign, about_alerts)
    command = ["alerts", "--once", "--elasticsearch", stack.elasticsearch_url, "--space", space]
    assert mlaudit(monkeypatch, *command) == 0
    (record,) = recorded(elasticsearch, service, 1)
    assert {
        "event.kind": "alert",
        "rule.id": "6d0f4c1e-52a7-4f0b-9c37-1f6a8d0e94b2",
        "rule.name": "ML Audit Record Sent In The Name Of Another Service",
        "event.severity": 73,
        "audit.target.type": "actor",
        "audit.target.id": "hmac:3fa1c07b:9b74c9897bac770ffc029102a200c5de",
        "audit.detection.engine": "kibana",
        "audit.detection.alert_id": first["kibana.alert.uuid"],
        "audit.detection.records": [RECORD],
        "event.reason": first["kibana.alert.reason"],
    }.items() <= record.items()
    assert record["source.ip"].startswith("192.0.2.")
    assert record["@timestamp"].startswith(first["@timestamp"][:-1])

    # One that was found before but stored after the last poll, and a new one.
    late = alert(now - timedelta(minutes=6))
    put(elasticsearch, space, late, alert(now))
    assert mlaudit(monkeypatch, *command) == 0
    assert mlaudit(monkeypatch, *command) == 0
    identities = {one["audit.detection.alert_id"] for one in recorded(elasticsearch, service, 3)}
    assert {first["kibana.alert.uuid"], late["kibana.alert.uuid"]} < identities


def test_alerts_are_read_page_by_page(
    space: str,
    environment: dict[str, str],
    service: str,
    elasticsearch: Elasticsearch,
    reader: Elasticsearch,
) -> None:
    """More alerts than one page holds, with the same time: each is read exactly once."""
    now = datetime.now(UTC)
    put(elasticsearch, space, *(alert(now) for _ in range(7)))
    with AlertTrail(Settings.from_env(), "kibana-pages") as trail:
        assert record_new(reader, space, trail, now - timedelta(hours=1), page=3) == 7
        assert record_new(reader, space, trail, now - timedelta(hours=1), page=3) == 0
    assert len({one["audit.detection.alert_id"] for one in recorded(elasticsearch, service, 7)}) == 7


def test_hostile_alert_is_recorded_as_far_as_it_goes(
    space: str,
    environment: dict[str, str],
    service: str,
    elasticsearch: Elasticsearch,
    reader: Elasticsearch,
) -> None:
    """Odd values, absent fields and a threshold alert without records make a record, and no error."""
    now = datetime.now(UTC)
    odd = alert(
        now,
        **{
            "kibana.alert.rule.name": None,
            "kibana.alert.risk_score": "many",
            "kibana.alert.severity": "critical",
            "kibana.alert.ancestors": ["?", {"id": 7}, {"id": f"{RECORD}-x", "index": "logs-mlaudit.x"}],
            "source": {"ip": ["not an address"]},
            "audit": "text",
            "kibana.alert.reason": "x" * 10_000,
        },
    )
    put(elasticsearch, space, odd)
    with AlertTrail(Settings.from_env(), "kibana-odd") as trail:
        assert record_new(reader, space, trail, now - timedelta(hours=1)) == 1
    (record,) = recorded(elasticsearch, service, 1)
    assert (record["rule.name"], record["event.severity"]) == ("unnamed rule", 99)
    assert (record["audit.target.type"], record["audit.target.id"]) == ("rule", "unnamed rule")
    assert len(record["event.reason"]) == 1000
    assert not {"source.ip", "audit.detection.records"} & record.keys()


def test_following_records_what_comes_and_ends_in_order(
    stack: Stack,
    space: str,
    environment: dict[str, str],
    service: str,
    elasticsearch: Elasticsearch,
    tmp_path: Path,
) -> None:
    """Alerts are recorded as they come, also over a kill, and a stopped follower ends its stream."""
    command = [sys.executable, "-m", "mlaudit.cli", "alerts", "--follow", "--every", "0.2"]
    command += ["--elasticsearch", stack.elasticsearch_url, "--space", space]
    first, second = alert(datetime.now(UTC)), alert(datetime.now(UTC))
    with (tmp_path / "log").open("wb") as log:
        follower = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            put(elasticsearch, space, first)
            recorded(elasticsearch, service, 1)
        finally:
            follower.kill()
            follower.wait()
        follower = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            put(elasticsearch, space, second)
            found = recorded(elasticsearch, service, 2)
        finally:
            follower.send_signal(signal.SIGTERM)
            code = follower.wait(60)
    assert code == 0, (tmp_path / "log").read_text()
    known = {one["audit.detection.alert_id"] for one in found}
    assert known == {first["kibana.alert.uuid"], second["kibana.alert.uuid"]}

    def ended() -> bool:
        elasticsearch.indices.refresh(index="logs-mlaudit.*")
        filters = [{"term": {"service.name": service}}, {"term": {"audit.kind": "audit.stream.ended"}}]
        return elasticsearch.count(index="logs-mlaudit.*", query={"bool": {"filter": filters}})["count"] > 0

    wait_for(ended, "the stream's end")


def test_what_cannot_be_looked_at_is_an_error(
    stack: Stack,
    space: str,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A space without alerts, an invalid name, and a user without the role are errors with exit code 2."""
    where = ["alerts", "--once", "--elasticsearch", stack.elasticsearch_url]
    assert mlaudit(monkeypatch, *where, "--space", "nowhere") == 2
    assert "no such index" in capsys.readouterr().err
    assert mlaudit(monkeypatch, *where, "--space", "*") == 2
    assert "Kibana space" in capsys.readouterr().err
    assert mlaudit(monkeypatch, *where, "--follow") == 2
    assert "either --once" in capsys.readouterr().err
    monkeypatch.setenv("MLAUDIT_ES_USERNAME", "mlaudit-writer")
    monkeypatch.setenv("MLAUDIT_ES_PASSWORD", stack.credentials.writer)
    assert mlaudit(monkeypatch, *where, "--space", space) == 2
    assert "mlaudit_alerts" in capsys.readouterr().err
