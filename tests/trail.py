"""A trail in memory, for the tests of lineage: answers queries as Elasticsearch does, from a list of records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from mlaudit.lineage.ask.trail import Ask, Match, Page, Record, Sighting, Tallies, Tally


def record(fields: Mapping[str, Any]) -> Record:
    """A record with the fields of its original."""
    return Record(
        id=fields["audit.record.id"],
        kind=fields["audit.kind"],
        time=fields["@timestamp"],
        fields=fields,
        stream_id=fields.get("audit.sequence.stream_id", ""),
        sequence=fields.get("audit.sequence.number", 0),
        sealed="audit.sequence.stream_id" in fields,
    )


class Story:
    """Creates records one second apart, as one process of a service would."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._numbers = count(1)
        self._sequences: Counter[str] = Counter()

    def tell(self, kind: str, *, service: str = "trainer", outcome: str = "success", **fields: Any) -> Record:
        """Adds a record; names of fields are written with ``__`` for the dot."""
        number = next(self._numbers)
        stream = f"019ab8a0-0000-7000-8000-{sum(map(ord, service)):012x}"
        self._sequences[stream] += 1
        made = record(
            {
                "audit.record.id": f"019ab8a1-0000-7000-8000-{number:012x}",
                "audit.kind": kind,
                "@timestamp": f"2026-11-25T03:{30 + number // 60:02d}:{number % 60:02d}.000000000Z",
                "audit.actor.id": service,
                "service.name": service,
                "host.name": "node-3",
                "event.outcome": outcome,
                "audit.sequence.stream_id": stream,
                "audit.sequence.number": self._sequences[stream],
                **{name.replace("__", "."): value for name, value in fields.items()},
            }
        )
        self.records.append(made)
        return made


class MemoryTrail:
    """See ``mlaudit.lineage.ask.trail.Trail``."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self.asked = 0

    def find(self, ask: Ask) -> Page:
        """The newest that match."""
        self.asked += 1
        found = [one for one in self.records if _matches(ask, one)]
        newest = sorted(found, key=lambda one: (one.time, one.id), reverse=True)
        return Page(tuple(newest[: ask.limit]), len(found))

    def distinct(self, ask: Ask, name: str) -> int:
        """Exactly."""
        return len({one.text(name) for one in self.records if _matches(ask, one) and one.text(name)})

    def tallies(self, ask: Ask) -> Tallies:
        """All services."""
        groups: dict[str, list[Record]] = defaultdict(list)
        for one in self.records:
            if _matches(ask, one):
                groups[one.text("service.name")].append(one)
        return Tallies(tuple(_tally(service, found) for service, found in sorted(groups.items())))

    def sightings(self, name: str) -> tuple[Sighting, ...]:
        """By version, digest, kind and outcome."""
        groups: dict[tuple[str, str, str, str], list[Record]] = defaultdict(list)
        for one in self.records:
            if one.text("ml.model.name") == name:
                key = (
                    one.text("ml.model.version"),
                    one.text("ml.model.digest"),
                    one.kind,
                    one.text("event.outcome"),
                )
                groups[key].append(one)
        return tuple(
            Sighting(*key, len(found), min(one.time for one in found), max(one.time for one in found))
            for key, found in sorted(groups.items())
        )

    def names(self) -> tuple[str, ...]:
        """By frequency."""
        counted = Counter(one.text("ml.model.name") for one in self.records if one.text("ml.model.name"))
        return tuple(name for name, _ in counted.most_common())


def _matches(ask: Ask, one: Record) -> bool:
    return (
        one.kind in ask.kinds
        and (not ask.since or one.time >= ask.since)
        and (not ask.until or one.time < ask.until)
        and any(_holds(match, one) for match in ask.any_of)
    )


def _holds(match: Match, one: Record) -> bool:
    return (
        all(one.text(name) in values for name, values in match.terms)
        and not any(name in one.fields for name in match.absent)
        and (match.below is None or one.fields.get(match.below[0], 0) < match.below[1])
    )


def _tally(service: str, found: list[Record]) -> Tally:
    ordered = sorted(found, key=lambda one: (one.time, one.id))
    return Tally(
        service,
        len(ordered),
        ordered[0],
        ordered[-1],
        dict(Counter(one.text("event.outcome") for one in ordered)),
        len({one.text("audit.actor.id") for one in ordered}),
        sum(int(one.number("ml.prediction.rows") or 0) for one in ordered),
        sum(not one.sealed for one in ordered),
    )
