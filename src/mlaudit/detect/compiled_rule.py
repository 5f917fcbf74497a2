"""A compiled detection rule, and its alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Every audit data stream, of every class and namespace.
INDEX: Final = "logs-mlaudit.*"

LEVELS: Final = ("informational", "low", "medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class Step:
    """``count`` records that match ``query`` (Lucene syntax)."""

    query: str
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The execution plan of one rule on a cluster; compiled from Sigma by ``make generate``.

    Attributes:
        id: the Sigma rule's UUID; the same in every SIEM the rule is generated for.
        name: short name, e.g. ``prediction-flood``.
        level: one of ``LEVELS``.
        group_by: fields whose values the records of one alert share.
        window_seconds: the steps happen in this order within so many seconds, counted over ``@timestamp``;
            0 when every single record is a finding (then there is one step with count 1).
        policy: lines of the governance policy that the rule serves.
    """

    id: str
    name: str
    title: str
    level: str
    steps: tuple[Step, ...]
    group_by: tuple[str, ...]
    window_seconds: int
    policy: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """The plan in a compiled file."""
        return cls(
            id=content["id"],
            name=content["name"],
            title=content["title"],
            level=content["level"],
            steps=tuple(Step(step["query"], step["count"]) for step in content["steps"]),
            group_by=tuple(content["group_by"]),
            window_seconds=content["window_seconds"],
            policy=tuple(content["policy"]),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of a compiled file."""
        return {
            "id": self.id,
            "name": self.name,
            "title": self.title,
            "level": self.level,
            "steps": [{"query": step.query, "count": step.count} for step in self.steps],
            "group_by": list(self.group_by),
            "window_seconds": self.window_seconds,
            "policy": list(self.policy),
        }


@dataclass(frozen=True, slots=True)
class Alert:
    """One finding of one rule.

    Attributes:
        count: records of the finding, from ``first`` to ``last``.
        group: the shared value of each field of the plan's ``group_by``; a field that the records lack is absent.
        entities: the most frequent values of actor, source, model, service and kind among the records.
        first, last: time of the first and last record, RFC 3339, UTC, nanoseconds.
        records: ids of the first few records (``audit.record.id``).
    """

    rule_id: str
    rule: str
    title: str
    level: str
    count: int
    group: dict[str, str] = field(default_factory=dict)
    entities: dict[str, list[str]] = field(default_factory=dict)
    first: str = ""
    last: str = ""
    records: tuple[str, ...] = ()
