"""Explains a decision: which rule decides, and why the earlier rules do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlaudit.policy.evaluate import Facts, Level, compile_policy, criteria_of
from mlaudit.policy.vocabulary import FINAL_RULE

if TYPE_CHECKING:
    from mlaudit.policy.model import Policy, Redact


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was evaluated.

    ``criterion``, ``patterns`` and ``value`` name the first criterion that did not match; they are empty for the rule
    that matched.
    """

    rule: str
    matched: bool
    criterion: str = ""
    patterns: tuple[str, ...] = ()
    value: str = ""

    def __str__(self) -> str:
        if self.matched:
            return "matches"
        found = repr(self.value) if self.value else "none"
        return f"{self.criterion} {found} is not {' or '.join(self.patterns)}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The policy's decision about an event, and the steps that led to it."""

    facts: Facts
    steps: tuple[Step, ...]
    rule: str
    level: Level
    guarantee: str
    on_failure: str
    retention: str
    redactions: tuple[tuple[str, str], ...]
    """Method and field patterns, in the order in which they apply."""
    note: str = ""
    """The parts of the decision that do not come from the rule."""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "facts": self.facts._asdict(),
            "rule": self.rule,
            "level": self.level.name.lower(),
            "guarantee": self.guarantee,
            "on_failure": self.on_failure,
            "retention": self.retention,
            "redactions": [{"method": method, "fields": fields} for method, fields in self.redactions],
            "note": self.note,
            "steps": [
                {
                    "rule": step.rule,
                    "matched": step.matched,
                    "criterion": step.criterion,
                    "patterns": list(step.patterns),
                    "value": step.value,
                    "why": str(step),
                }
                for step in self.steps
            ],
        }


@dataclass(frozen=True, slots=True)
class Access:
    """A data access: a table or a path, and the number of rows."""

    table: str = ""
    path: str = ""
    rows: int | None = None


def explain(policy: Policy, facts: Facts, access: Access | None = None) -> Explanation:
    """Which rule of a policy decides on an event with these facts, and why the earlier ones do not.

    With ``access``, the explanation also says whether the policy's ``data`` records that access.
    """
    steps: list[Step] = []
    own: tuple[Redact, ...] = ()
    level = Level.METADATA
    for rule in policy.rules:
        failed = next(
            (name for name, matches in criteria_of(rule) if not matches(getattr(facts, name))), None
        )
        if failed is None:
            steps.append(Step(rule.name, matched=True))
            own = rule.redact
            level = Level[rule.level.upper()]
            break
        steps.append(Step(rule.name, False, failed, getattr(rule.match, failed), getattr(facts, failed)))
    else:
        steps.append(Step(FINAL_RULE, matched=True))
    # The decision itself comes from the real evaluator, so that an explanation cannot differ from it.
    decision = compile_policy(policy, b"explain").decide(facts)
    notes: list[str] = []
    if decision.rule == FINAL_RULE:
        notes.append("no rule of the policy matches; the built-in final rule records metadata")
    if decision.level != level:
        notes.append(f"mlaudit's own kinds are always recorded: {level.name.lower()} was raised to metadata")
    if access is not None:
        notes += _data_notes(policy, access)
    return Explanation(
        facts=facts,
        steps=tuple(steps),
        rule=decision.rule,
        level=decision.level,
        guarantee=decision.guarantee,
        on_failure=decision.on_failure,
        retention=decision.retention,
        redactions=tuple((entry.method, " ".join(entry.fields)) for entry in (*policy.redact, *own)),
        note="; ".join(notes),
    )


def _data_notes(policy: Policy, access: Access) -> list[str]:
    data = compile_policy(policy, b"explain").data
    notes = []
    for what, name, chosen in (("table", access.table, data.table), ("path", access.path, data.path)):
        if name:
            patterns = ", ".join(getattr(policy.data, f"{what}s")) or "empty"
            outcome = "is recorded" if chosen(name) else "is not recorded"
            notes.append(f"an access to {what} {name!r} {outcome} (data.{what}s: {patterns})")
    if access.rows is not None:
        outcome = "an export" if data.is_bulk(access.rows) else "not an export"
        notes.append(f"{access.rows} rows are {outcome} (data.bulk_rows: {data.bulk_rows or 'null'})")
    return notes
