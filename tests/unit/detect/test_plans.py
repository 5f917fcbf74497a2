"""Loading and choosing compiled rules."""

from __future__ import annotations

import pytest

from mlaudit.detect import plans
from mlaudit.detect.compiled_rule import LEVELS, Plan, Step
from mlaudit.errors import SourceError
from mlaudit.install import packaged

FLOOD = Plan(
    "00000000-0000-4000-8000-000000000001",
    "flood",
    "A flood",
    "high",
    (Step("a:b", 3),),
    ("x",),
    60,
    ("5.2",),
)
OTHER = Plan("00000000-0000-4000-8000-000000000002", "other", "Another", "low", (Step("c:d", 1),), ("y",), 0)


def test_a_plan_survives_its_file() -> None:
    """A plan written to JSON and read again is the same."""
    assert Plan.from_json(FLOOD.to_json()) == FLOOD


def test_rules_are_chosen_by_name_or_id_in_the_order_asked_and_once() -> None:
    """Names and ids may be mixed; a rule named twice runs once."""
    assert plans.select((FLOOD, OTHER), ["other", FLOOD.id, "flood"]) == (OTHER, FLOOD)


def test_an_unknown_rule_is_refused_with_the_names_there_are() -> None:
    """The error names the unknown rule and every known one."""
    with pytest.raises(SourceError, match=r"no such rule: nothing; the rules are: flood, other"):
        plans.select((FLOOD, OTHER), ["flood", "nothing"])


def test_the_compiled_rules_are_whole() -> None:
    """Every compiled rule has a known level, steps and fields to group by."""
    loaded = plans.load_plans()
    assert {plan.name for plan in loaded} == {
        "audit-trail-weakened",
        "model-digest-mismatch",
        "prediction-flood",
        "refused-then-success-actor",
        "refused-then-success-source",
        "sender-mismatch",
        "uncontrolled-production-change",
    }
    for plan in loaded:
        assert plan.level in LEVELS
        assert plan.steps
        assert plan.group_by
        assert plan.window_seconds > 0 or [step.count for step in plan.steps] == [1]


def test_rules_that_are_not_installed_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Without compiled rules there is an error, not an empty run."""
    monkeypatch.setattr(packaged, "_PACKAGE", tmp_path)
    with pytest.raises(SourceError, match="expected compiled detection rules"):
        plans.folder()
