"""The commands ``mlaudit policy check`` and ``mlaudit policy explain``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.errors import PolicyError
from mlaudit.policy.evaluate import Facts
from mlaudit.policy.explain import explain
from mlaudit.policy.load import built_in_text, parse_policy

BROKEN = Path(__file__).parents[2] / "golden" / "policy" / "broken.yaml"
run = CliRunner().invoke


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A copy of the built-in policy as a file."""
    path = tmp_path / "policy.yaml"
    path.write_text(built_in_text().replace("2026-11-25", "2026-01-01"), "utf-8")
    return path


def test_check_accepts_a_good_file(good: Path) -> None:
    """A valid policy gives exit code 0 and a summary of the policy."""
    result = run(app, ["policy", "check", str(good)])
    assert result.exit_code == 0
    assert "ok, revision 1, 2 rule(s)" in result.output


def test_check_prints_every_fault() -> None:
    """Faults give exit code 1, each with file and line, and their number."""
    result = run(app, ["policy", "check", str(BROKEN)])
    assert result.exit_code == 1
    told = json.loads(run(app, ["policy", "check", "--json", str(BROKEN)]).output)
    assert told["ok"] is False
    assert len(told["faults"]) > 30
    for fault in told["faults"]:
        assert fault.split("; ")[0][:70] in result.output


def test_check_prints_warnings_and_still_accepts(good: Path) -> None:
    """A rule that is never reached is reported, with exit code 0."""
    good.write_text(
        good.read_text("utf-8").replace("spans:", "  - {name: late, level: full}\n\nspans:"), "utf-8"
    )
    result = run(app, ["policy", "check", str(good)])
    assert result.exit_code == 0
    assert "rules[2]: is never reached" in result.output


def test_check_cannot_look(tmp_path: Path) -> None:
    """Exit code 2 for a file that cannot be read, also as JSON."""
    assert run(app, ["policy", "check", str(tmp_path / "absent")]).exit_code == 2
    result = run(app, ["policy", "check", "--json", str(tmp_path)])
    assert result.exit_code == 2
    assert "cannot be read" in json.loads(result.output)["unreadable"]


def test_explain_tells_the_rule_and_why_others_do_not_match() -> None:
    """For a model load the volume rule fails on the kind, and the security rule decides."""
    result = run(app, ["policy", "explain", "--kind", "audit.ml.model.loaded", "--route", "/x"])
    assert result.exit_code == 0
    for text in ("volume", "security", "durable", "metadata", "hmac"):
        assert text in result.output


def test_explain_gives_the_same_as_json(good: Path) -> None:
    """With every fact, from a file."""
    result = run(app, [
        "policy", "explain", "--kind", "audit.ml.prediction", "--route", "/predict", "--service", "x", "--model", "m",
        "--actor", "a", "--policy", str(good), "--json",
    ])  # fmt: skip
    told = json.loads(result.output)
    assert told["rule"] == "volume"
    assert told["facts"] == {
        "kind": "audit.ml.prediction",
        "service": "x",
        "route": "/predict",
        "model": "m",
        "actor": "a",
    }
    assert [step["matched"] for step in told["steps"]] == [True]


def test_explain_refuses_an_unknown_kind_and_a_broken_policy() -> None:
    """Neither is guessed."""
    assert run(app, ["policy", "explain", "--kind", "audit.nonsense"]).exit_code == 2
    result = run(app, ["policy", "explain", "--kind", "audit.ml.prediction", "--policy", str(BROKEN)])
    assert isinstance(result.exception, PolicyError)


def test_an_explanation_names_the_criterion_that_failed() -> None:
    """The explanation names the first one with its patterns and the value, or the built-in final rule."""
    text = built_in_text()
    policy = parse_policy(
        text[: text.index("rules:")].replace("2026-11-25", "2026-01-01")
        + "rules:\n  - {name: a, match: {kind: audit.ml.*, model: [x, 'y*']}, level: full}\n"
        + "  - {name: b, match: {kind: audit.stream.*}, level: none}\n",
        "test",
    )
    found = explain(policy, Facts("audit.ml.prediction", model="z"))
    assert [str(step) for step in found.steps] == [
        "model 'z' is not x or y*",
        "kind 'audit.ml.prediction' is not audit.stream.*",
        "matches",
    ]
    assert (found.rule, found.level.name) == ("built-in", "METADATA")
    assert "no rule of the policy matches" in found.note
    own = explain(policy, Facts("audit.stream.ended"))
    assert (own.rule, own.level.name, own.guarantee) == ("b", "METADATA", "durable")
    assert "was raised" in own.note
