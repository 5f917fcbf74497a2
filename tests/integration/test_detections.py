"""The detection rules' own queries on their cases, in a real Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from tests.namespace import Namespace
from tools.generators.detection_cases import Case, read_cases

from mlaudit import cli
from mlaudit.catalog.load import load_catalog
from mlaudit.detect import Alert, Plan, run_rules
from mlaudit.detect.plans import load_plans
from mlaudit.errors import SourceError
from mlaudit.install.apply import install
from mlaudit.stack import Stack

ROOT = Path(__file__).parents[2]
CASES = read_cases(ROOT / "detections" / "cases")
#: A full hour, so that cases can place records around the boundaries of fixed windows.
START = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)

pytestmark = pytest.mark.stack


def run(
    namespace: Namespace,
    rules: list[str] | None = None,
    since: datetime = START - DAY,
    until: datetime = START + DAY,
) -> list[Alert]:
    """Run rules on the data streams of one test."""
    return run_rules(namespace.reader, since, until, rules, index=namespace.index)


@pytest.fixture(scope="module")
def templates(stack: Stack) -> None:
    """The index templates that mlaudit install puts there."""
    install(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file)


@pytest.fixture(scope="module")
def reader(stack: Stack) -> Iterator[Elasticsearch]:
    """A client that may only read audit records: detection must not need more."""
    trust = str(stack.ca_file) if stack.ca_file else None
    with Elasticsearch(stack.elasticsearch_url, basic_auth=stack.reader_auth, ca_certs=trust) as client:
        yield client


@pytest.fixture
def namespace(templates: None, elasticsearch: Elasticsearch, reader: Elasticsearch) -> Iterator[Namespace]:
    """Fresh data streams, emptied afterwards."""
    fresh = Namespace(elasticsearch, reader)
    yield fresh
    fresh.empty()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_a_rule_fires_on_exactly_the_cases_it_must(case: Case, namespace: Namespace) -> None:
    """A rule raises the number of alerts that the case states, with the right entities."""
    namespace.store(case.bodies(load_catalog(), START))
    alerts = run(namespace, [case.rule])
    assert len(alerts) == case.alerts
    for alert in alerts:
        assert alert.rule == case.rule
        assert alert.records
        assert alert.first <= alert.last
    if case.alerts:
        assert case.group.items() <= alerts[0].group.items()
        assert case.count in (None, alerts[0].count)


def test_no_rule_fires_on_an_ordinary_record_of_any_kind(namespace: Namespace) -> None:
    """One sample of every kind, except kinds that are findings in themselves, raises no alert."""
    findings = {"audit.pipeline.failure", "audit.stream.abandoned", "audit.policy.changed"}
    catalog = load_catalog()
    kinds = [kind for kind in catalog.kinds if kind not in findings and not kind.endswith(".*")]
    records = tuple({"kind": kind, "at": second} for second, kind in enumerate(kinds))
    namespace.store(Case("all", "ordinary", 0, records).bodies(catalog, START))
    assert run(namespace) == []


def test_a_rule_sees_records_when_they_arrive(namespace: Namespace) -> None:
    """A record that waited in a spool is found in the run after its arrival, and only in that run."""
    record = {"kind": "audit.pipeline.failure", "late": 3600}
    namespace.store(Case("late", "late", 1, (record,)).bodies(load_catalog(), START))
    minute = timedelta(minutes=1)
    arrival = START + timedelta(hours=1)
    assert run(namespace, since=START - minute, until=START + minute) == []
    assert [alert.rule for alert in run(namespace, since=arrival, until=arrival + minute)] == [
        "audit-trail-weakened"
    ]
    assert run(namespace, since=arrival + minute, until=arrival + 2 * minute) == []


def test_a_flood_is_found_when_its_last_record_arrives(namespace: Namespace) -> None:
    """A flood whose records arrived over two runs is one alert, in the run that reached the threshold."""
    records = (
        {"kind": "audit.ml.prediction", "repeat": 199, "every": 1, "set": {"audit.actor.id": "mallory"}},
        {"kind": "audit.ml.prediction", "at": 250, "set": {"audit.actor.id": "mallory"}},
    )
    namespace.store(Case("flood", "two runs", 1, records).bodies(load_catalog(), START))
    between = START + timedelta(seconds=240)
    # What arrives later is not hidden from the first run here, so it finds the flood too: never too late.
    late = run(namespace, ["prediction-flood"], since=between)
    assert [alert.count for alert in late] == [200]
    assert run(namespace, ["prediction-flood"], since=START + timedelta(seconds=251)) == []


def test_an_alert_says_who_from_where_and_when(namespace: Namespace) -> None:
    """An alert names actor, source, model and service, the time of first and last record, and some records."""
    records = (
        {"kind": "audit.ml.prediction", "repeat": 200, "every": 0.5, "set": {"audit.actor.id": "mallory"}},
    )
    bodies = list(Case("flood", "entities", 1, records).bodies(load_catalog(), START))
    namespace.store(bodies)
    (alert,) = run(namespace, ["prediction-flood"])
    assert alert.group == {"audit.actor.id": "mallory"}
    assert alert.entities == {
        "audit.actor.id": ["mallory"],
        "source.ip": ["192.0.2.0"],
        "ml.model.name": ["credit-risk"],
        "service.name": ["loan-scoring"],
        "audit.kind": ["audit.ml.prediction"],
    }
    assert (alert.first, alert.last) == ("2026-11-24T12:00:00.000000000Z", "2026-11-24T12:01:39.500000000Z")
    assert alert.records == tuple(body["audit.record.id"] for body in bodies[:5])


def test_many_groups_are_read_to_the_end(namespace: Namespace) -> None:
    """More groups than one page of a response holds are all evaluated."""
    records = (
        {"kind": "audit.ml.prediction", "repeat": 1500, "every": 0.01, "set": {"audit.actor.id": "a{n}"}},
        {"kind": "audit.ml.prediction", "repeat": 200, "every": 0.5, "set": {"audit.actor.id": "zoe"}},
    )
    namespace.store(Case("flood", "pages", 1, records).bodies(load_catalog(), START))
    assert [alert.group["audit.actor.id"] for alert in run(namespace, ["prediction-flood"])] == ["zoe"]


def test_a_long_flood_is_read_page_by_page_into_one_alert(namespace: Namespace) -> None:
    """A flood of more records than one page holds is one alert with all of them."""
    records = (
        {"kind": "audit.ml.prediction", "repeat": 2500, "every": 0.3, "set": {"audit.actor.id": "mallory"}},
    )
    namespace.store(Case("flood", "long", 1, records).bodies(load_catalog(), START))
    (alert,) = run(namespace, ["prediction-flood"])
    assert alert.count == 2500


def test_looking_where_nothing_is_installed_is_refused(elasticsearch: Elasticsearch) -> None:
    """Data streams that do not exist are an error, not an empty answer."""
    with pytest.raises(SourceError, match="found none; run mlaudit install"):
        run_rules(elasticsearch, START, START + DAY, index="logs-mlaudit.*-nowhere")


def test_wrong_credentials_are_an_error(templates: None, stack: Stack, namespace: Namespace) -> None:
    """A cluster that rejects the reader's credentials is an error that says so."""
    stranger = Elasticsearch(
        stack.elasticsearch_url,
        basic_auth=("nobody", "wrong"),
        ca_certs=str(stack.ca_file) if stack.ca_file else None,
    )
    with stranger, pytest.raises(SourceError, match="refuses the credentials"):
        run_rules(stranger, START, START + DAY, index=namespace.index)


@pytest.mark.parametrize("plan", load_plans(), ids=lambda plan: plan.name)
def test_every_field_of_a_rule_is_mapped(plan: Plan, templates: None, elasticsearch: Elasticsearch) -> None:
    """Every field that a rule groups by is in the mapping of every audit data stream."""
    simulated = elasticsearch.indices.simulate_index_template(name="logs-mlaudit.access-default")
    mapped = simulated["template"]["mappings"]["properties"]
    assert set(plan.group_by) <= set(mapped)


def detect(stack: Stack, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Run ``mlaudit detect --once`` on the data streams of one test; returns its exit code."""
    user, password = stack.reader_auth
    monkeypatch.setenv("MLAUDIT_ES_USERNAME", user)
    monkeypatch.setenv("MLAUDIT_ES_PASSWORD", password)
    trust = ["--ca-file", str(stack.ca_file)] if stack.ca_file else []
    where = ["--elasticsearch", stack.elasticsearch_url, "--index", namespace.index, *trust]
    monkeypatch.setattr("sys.argv", ["mlaudit", "detect", "--once", *where, *options])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_the_command_prints_alerts_and_says_so_by_its_exit_code(
    stack: Stack, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alerts give exit code 1 and, with --json, are printed with every field; no alert gives exit code 0."""
    records = ({"kind": "audit.pipeline.failure"},)
    namespace.store(Case("command", "json", 1, records).bodies(load_catalog(), START))
    since = (START - DAY).isoformat()
    assert detect(stack, namespace, monkeypatch, "--since", since, "--json") == 1
    (alert,) = json.loads(capsys.readouterr().out)["alerts"]
    assert (alert["rule"], alert["level"], alert["count"]) == ("audit-trail-weakened", "high", 1)
    assert alert["group"] == {"service.name": "loan-scoring", "audit.kind": "audit.pipeline.failure"}
    assert detect(stack, namespace, monkeypatch, "--since", since) == 1
    assert "ML Audit Trail Broken Or Lowered" in capsys.readouterr().out
    assert detect(stack, namespace, monkeypatch, "--since", since, "--rule", "prediction-flood") == 0
    assert "no alert" in capsys.readouterr().out
    assert detect(stack, namespace, monkeypatch, "--rule", "nonsense") == 2
    assert "no such rule: nonsense" in capsys.readouterr().err
