"""The scope of a stream's proof, and its summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class StreamSummary:
    """The result of one stream's proof besides its findings.

    Attributes:
        state: ``open`` (its process may still be running), ``ended`` or ``abandoned``.
        first, last: the checked range of sequences; ``records`` is the number of records read.
        last_signed: highest sequence that a valid signature covers, 0 for none.
        unsigned: later records that carry no signature of their own.
        last_id, last_where: id and location of the last record.
        facts: from the first record: the previous and the parent stream.
        end_facts: from the record that ended the stream: the process that adopted it.
        tail: hashes by sequence of the records that other streams name, and of the last record.
        cut_before, cut_after: records before the first or after the last were left out of the check.
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
        """As JSON values."""
        names = (
            "stream_id state records first last last_signed unsigned checkpoints_good checkpoints_bad service host"
            " first_time last_time cut_before cut_after"
        )
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of a stream that the proof receives.

    Attributes:
        cut_before: records before the first are left out on purpose, so a missing start is not a finding.
        cut_after: the same for the end.
        silent_before: RFC 3339; an open stream should have signed every record that is older.
    """

    cut_before: bool = False
    cut_after: bool = False
    silent_before: str = ""
