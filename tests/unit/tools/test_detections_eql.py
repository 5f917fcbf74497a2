"""The EQL sequences of Elastic Security's rules, run on their cases by Elastic's own EQL engine for Python."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tools.generators.detection_cases import Case, read_cases

from mlaudit.catalog.load import load_catalog
from mlaudit.detect.plans import load_plans

eql = pytest.importorskip("eql", reason="PyPI's eql is not installed; it is in the dev dependency group")

ROOT = Path(__file__).parents[3]
START = datetime(2026, 11, 24, 12, tzinfo=UTC)
SEQUENCES = {
    rule["rule_id"]: rule["query"]
    for rule in map(
        json.loads, (ROOT / "detections" / "elastic" / "mlaudit-rules.ndjson").read_text("utf-8").splitlines()
    )
    if rule["type"] == "eql"
}
NAMES = {plan.name: plan.id for plan in load_plans() if plan.id in SEQUENCES}
CASES = [case for case in read_cases(ROOT / "detections" / "cases") if case.rule in NAMES]
#: Hundreds of nanoseconds, the engine's unit of time.
TICKS = 10_000_000


def nested(body: dict[str, Any]) -> dict[str, Any]:
    """The fields that the rules read, as objects in objects."""
    found: dict[str, Any] = {}
    for name, value in body.items():
        if name.startswith(
            ("audit.kind", "audit.actor.", "event.outcome", "source.ip", "http.response.status_code")
        ):
            *path, last = name.split(".")
            place = found
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_a_sequence_matches_exactly_the_cases_it_must(case: Case) -> None:
    """The sequence matches the cases that fire and no other."""
    with eql.parser.elasticsearch_syntax, eql.parser.allow_runs:
        query = eql.parse_query(SEQUENCES[NAMES[case.rule]])
    matches: list[Any] = []
    engine = eql.PythonEngine({"print": False})
    engine.add_query(query)
    engine.add_output_hook(matches.append)
    bodies = sorted(
        case.bodies(load_catalog(), START), key=lambda one: (one["@timestamp"], one["event.sequence"])
    )
    engine.stream_events(
        eql.Event("any", int(datetime.fromisoformat(body["@timestamp"]).timestamp() * TICKS), nested(body))
        for body in bodies
    )
    assert bool(matches) == bool(case.alerts)


def test_there_are_sequences_to_run() -> None:
    """Both sequence rules have cases here, so that nothing is skipped unnoticed."""
    assert {case.rule for case in CASES} == {"refused-then-success-actor", "refused-then-success-source"}
