"""Records of a trail, and the queries that a lineage runs on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Record:
    """One audit record, as its sealed original says.

    Attributes:
        id: ``audit.record.id``; for a record without one, its document id.
        kind: ``audit.kind``.
        time: ``@timestamp``, RFC 3339 in UTC.
        fields: of the original; for a record without one, of its document.
        stream_id, sequence: its place in a chain; "" and 0 where it has none.
        sealed: it claims a place in a chain. ``mlaudit verify`` checks whether the chain holds.
        fault: how the document differs from the original; "" where it does not.
    """

    id: str
    kind: str
    time: str
    fields: Mapping[str, Any]
    stream_id: str = ""
    sequence: int = 0
    sealed: bool = True
    fault: str = ""

    def text(self, name: str) -> str:
        """A field as text; "" where it is absent or not a scalar."""
        value = self.fields.get(name)
        if isinstance(value, str):
            return value
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""

    def number(self, name: str) -> int | float | None:
        """A field as a number; None where it is absent or not a number. Whole numbers are integers."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def mapping(self, name: str) -> dict[str, Any]:
        """The scalar values of an object field, by name; empty where it is absent or not an object."""
        value = self.fields.get(name)
        if not isinstance(value, dict):
            return {}
        return {key: item for key, item in value.items() if isinstance(item, str | int | float | bool)}

    @property
    def succeeded(self) -> bool:
        """Whether the recorded action succeeded."""
        return self.fields.get("event.outcome") != "failure"


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that a record must meet, all of them.

    Attributes:
        terms: each field has one of its values.
        absent: fields that it must not have.
        below: a field and the number that its value must be less than.
    """

    terms: tuple[tuple[str, tuple[str, ...]], ...]
    absent: tuple[str, ...] = ()
    below: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A query: records of some kinds that meet any of the matches; at most ``limit``, the newest.

    ``since`` and ``until`` (exclusive) are RFC 3339 in UTC; empty where time does not matter.
    """

    kinds: tuple[str, ...]
    any_of: tuple[Match, ...]
    limit: int = 500
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The records found, and the total number of matches."""

    records: tuple[Record, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Many records of one service, counted where they are stored.

    Attributes:
        service: ``service.name``.
        count, unsealed: all of them, and those that no process sealed.
        outcomes: how many by ``event.outcome``.
        actors: number of distinct actors; approximate above some thousands.
        rows: the sum of ``ml.prediction.rows``.
        first, last: the oldest and the newest one.
    """

    service: str
    count: int
    first: Record
    last: Record
    outcomes: Mapping[str, int] = field(default_factory=dict)
    actors: int = 0
    rows: int = 0
    unsealed: int = 0


@dataclass(frozen=True, slots=True)
class Tallies:
    """Tallies by service, the most frequent first, and the number of records of services beyond the limit."""

    by_service: tuple[Tally, ...] = ()
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A version and digest that records give for a model, by kind and outcome; empty text where there is no value."""

    version: str
    digest: str
    kind: str
    outcome: str
    count: int
    first: str
    last: str


class Trail(Protocol):
    """A searchable trail; every method raises SourceError when the search fails."""

    def find(self, ask: Ask) -> Page:
        """The newest ``ask.limit`` records, in any order, and how many match."""
        ...

    def distinct(self, ask: Ask, name: str) -> int:
        """The number of distinct values of a field; approximate above some thousands."""
        ...

    def tallies(self, ask: Ask) -> Tallies:
        """The records counted by service, without a limit."""
        ...

    def sightings(self, name: str) -> tuple[Sighting, ...]:
        """The versions and digests that records give for the model."""
        ...

    def names(self) -> tuple[str, ...]:
        """Names of models, the most frequent first; truncated at some thousands."""
        ...
