"""Compilation of Sigma rules, and rejection of rules that cannot be compiled faithfully."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.generators.sigma_rules import read_rules

from mlaudit.detect.compiled_rule import Step
from mlaudit.errors import RuleError

BASE = """\
title: A Failure
id: 00000000-0000-4000-8000-000000000001
name: failure
status: test
logsource: {product: mlaudit}
detection:
  selection: {event.outcome: failure}
  condition: selection
---
title: A Success
id: 00000000-0000-4000-8000-000000000002
name: success
status: test
logsource: {product: mlaudit}
detection:
  selection: {event.outcome: success}
  condition: selection
---
title: Many Failures
id: 00000000-0000-4000-8000-000000000003
name: many
status: test
correlation:
  type: event_count
  rules: [failure]
  group-by: [audit.actor.id]
  timespan: 10m
  condition: {gte: 3}
---
"""
FINAL = """\
title: Final
id: 00000000-0000-4000-8000-000000000004
name: final
status: test
level: high
mlaudit: {risk_score: 73, policy: ["5.2"], triage: look, tuning: none}
"""
ORDERED = (
    FINAL
    + """\
correlation:
  type: temporal_ordered
  rules: [many, success]
  group-by: [audit.actor.id]
  timespan: 10m
"""
)


def write(folder: Path, text: str) -> Path:
    """A folder with one rule file."""
    (folder / "rule.yml").write_text(text, encoding="utf-8")
    return folder


def test_a_sequence_of_a_count_and_a_record_becomes_two_steps(tmp_path: Path) -> None:
    """The parts are steps in order with their counts; only the last rule makes alerts."""
    (detection,) = read_rules(write(tmp_path, BASE + ORDERED))
    assert detection.plan.steps == (Step("event.outcome:failure", 3), Step("event.outcome:success", 1))
    assert detection.plan.window_seconds == 600
    assert detection.plan.group_by == ("audit.actor.id",)
    assert detection.eql == ('event.outcome:"failure"', 'event.outcome:"success"')
    assert detection.fields == ("audit.actor.id", "event.outcome")


def test_more_than_is_one_more_than_at_least(tmp_path: Path) -> None:
    """``gt: 3`` needs four records."""
    (detection,) = read_rules(write(tmp_path, BASE.replace("gte: 3", "gt: 3") + ORDERED))
    assert detection.plan.steps[0].count == 4


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "timespan: 10m\n  condition",
            "timespan: 5m\n  condition",
            "expected the group-by and timespan of Many Failures",
        ),
        (
            "rules: [failure]\n  group-by: [audit.actor.id]",
            "rules: [failure]\n  group-by: [source.ip]",
            "expected the group-by",
        ),
        ("gte: 3", "lte: 3", "expected event_count of one rule with gte or gt"),
        ("gte: 3", "gte: 1", "expected a count from 2 to 5000, found 1"),
        ("gte: 3", "gte: 5001", "expected a count from 2 to 5000, found 5001"),
        ("temporal_ordered", "temporal", "expected event_count or temporal_ordered, found temporal"),
        ("triage: look, ", "", "expected mlaudit.triage"),
        ("rules: [many, success]", "rules: [many, nothing]", "nothing"),
        ("name: success", "nme: success", "success"),
        ("name: failure", "name: [", "rule.yml"),
    ],
)
def test_what_cannot_be_compiled_faithfully_is_refused(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    """A rule that cannot be compiled faithfully is an error that names file and reason."""
    text = BASE + ORDERED
    assert old in text
    with pytest.raises(RuleError, match=r"rule\.yml") as caught:
        read_rules(write(tmp_path, text.replace(old, new)))
    assert fault in str(caught.value)


def test_a_rule_on_single_records_needs_fields_to_group_by(tmp_path: Path) -> None:
    """Without a group, a thousand records would be one alert without a name; that is refused."""
    single = FINAL + "logsource: {product: mlaudit}\ndetection: {s: {event.outcome: failure}, condition: s}\n"
    with pytest.raises(RuleError, match="expected group-by or mlaudit.group_by, found neither"):
        read_rules(write(tmp_path, single))
    grouped = single.replace("tuning: none", "tuning: none, group_by: [service.name]")
    (detection,) = read_rules(write(tmp_path, grouped))
    assert (detection.plan.window_seconds, detection.plan.group_by) == (0, ("service.name",))


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    """Names, ids and titles are each unique over all files."""
    write(tmp_path, BASE + ORDERED)
    (tmp_path / "again.yml").write_text(BASE + ORDERED, encoding="utf-8")
    with pytest.raises(RuleError, match="expected every id of a rule once"):
        read_rules(tmp_path)
