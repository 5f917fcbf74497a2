"""Reads ``detections/cases``: records on which each rule must or must not fire, built from the catalog's samples."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from mlaudit.errors import RuleError
from mlaudit.rfc3339 import from_datetime
from tools.generators.yaml_file import read_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from mlaudit.catalog.model import Catalog

_KEYS: Final = frozenset({"kind", "at", "repeat", "every", "late", "set", "unset"})
_SPACE: Final = uuid.UUID("5f0f3f5e-7a0c-5c0e-9b0a-0d6f1c7f3b10")


@dataclass(frozen=True, slots=True)
class Case:
    """One case of one rule.

    Attributes:
        alerts: number of alerts that the rule raises for these records; 0 when it must not fire.
        group: shared values that the first alert must have.
        count: records that the first alert must have; None when the case does not say.
    """

    rule: str
    name: str
    alerts: int
    records: tuple[Mapping[str, Any], ...]
    group: dict[str, str] = field(default_factory=dict)
    count: int | None = None

    def bodies(self, catalog: Catalog, start: datetime) -> Iterator[dict[str, Any]]:
        """The records as Elasticsearch stores them, without their originals; ``start`` is the time of ``at: 0``."""
        sequence = 0
        for number, record in enumerate(self.records):
            for turn in range(record.get("repeat", 1)):
                sequence += 1
                seconds = record.get("at", 0) + turn * record.get("every", 0)
                happened = start + timedelta(seconds=seconds)
                identity = str(uuid.uuid5(_SPACE, f"{self.rule}/{self.name}/{number}/{turn}"))
                body = catalog.sample_of(record["kind"])
                body |= {
                    "@timestamp": from_datetime(happened),
                    "event.id": identity,
                    "audit.record.id": identity,
                    "event.ingested": from_datetime(happened + timedelta(seconds=record.get("late", 0))),
                    "event.sequence": sequence,
                }
                body |= {key: _numbered(value, turn) for key, value in record.get("set", {}).items()}
                body["audit.outcome"] = body["event.outcome"]
                for key in record.get("unset", ()):
                    body.pop(key, None)
                yield body


def read_cases(folder: Path) -> tuple[Case, ...]:
    """Every case, by rule.

    Raises:
        RuleError: a file does not have the expected shape.
    """
    return tuple(case for file in sorted(folder.glob("*.yaml")) for case in _read(file))


def _read(file: Path) -> Iterator[Case]:
    content = read_mapping(file)
    if content.get("rule") != file.stem:
        raise RuleError(f"{file.name}: expected rule: {file.stem}, found {content.get('rule')!r}")
    for entry in content["cases"]:
        for record in entry["records"]:
            if strangers := set(record) - _KEYS:
                raise RuleError(f"{file.name}: {entry['name']}: unknown {', '.join(sorted(strangers))}")
        yield Case(
            rule=content["rule"],
            name=entry["name"],
            alerts=entry["alerts"],
            records=tuple(entry["records"]),
            group=entry.get("group", {}),
            count=entry.get("count"),
        )


def _numbered(value: Any, turn: int) -> Any:
    return value.replace("{n}", str(turn)) if isinstance(value, str) else value
