"""What goes into the proof of one stream besides its records, and what comes out besides findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class StreamSummary:
    """What is known of one stream after its proof.

    Attributes:
        state: ``open`` (its process may still be running), ``ended`` or ``abandoned``.
        first, last: sequences looked at; ``records`` of them were read.
        last_signed: highest sequence that a good signature covers, 0 for none.
        unsigned: records behind it that carry no signature of their own.
        last_id, last_where: id of the last record, and where it lies.
        facts: of its first record: the streams before and above it.
        end_facts: of the record that ended it: who adopted it.
        tail: hashes by sequence of the records that other streams name, and of the last one.
        cut_before, cut_after: the scope left records before or behind unlooked.
    """

    stream_id: str
    state: str = "open"
    records: int = 0
    first: int = 0
    last: int = 0
    last_signed: int = 0
    unsigned: int = 0
    checkpoints_good: int = 0
    checkpoints_bad: int = 0
    service: str = ""
    host: str = ""
    first_time: str = ""
    last_time: str = ""
    last_id: str = ""
    last_where: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    end_facts: dict[str, Any] = field(default_factory=dict)
    tail: dict[int, str] = field(default_factory=dict)
    cut_before: bool = False
    cut_after: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = (
            "stream_id state records first last last_signed unsigned checkpoints_good checkpoints_bad service host"
            " first_time last_time cut_before cut_after"
        )
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a stream the proof gets to see.

    Attributes:
        cut_before: records before the first are left out on purpose, so a start inside is no finding.
        cut_after: the same for the end.
        silent_before: RFC 3339; an open stream should have signed every record that is older.
    """

    cut_before: bool = False
    cut_after: bool = False
    silent_before: str = ""
