"""What verification reads from a source, and what a source reports besides its records."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from mlaudit.errors import SourceError
from mlaudit.rfc3339 import from_datetime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlaudit.verify.proof.finding_codes import Finding
    from mlaudit.verify.proof.stored import StoredRecord

_FINDINGS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records to check.

    ``since`` and ``until`` are RFC 3339 in UTC with nanoseconds, so that they compare as text; until is exclusive.
    Each stream is checked from its first to its last record in the window, by sequence.
    ``streams`` None means every stream. ``signed``: records that carry a signed checkpoint are enough, where the
    source can tell them from others.
    """

    since: str = ""
    until: str = ""
    streams: frozenset[str] | None = None
    signed: bool = False

    @property
    def is_window(self) -> bool:
        """Whether time cuts streams."""
        return bool(self.since or self.until)

    def takes_stream(self, stream_id: str) -> bool:
        """Whether the stream is checked."""
        return self.streams is None or stream_id in self.streams

    def takes_time(self, time: str) -> bool:
        """Whether the time is in the window."""
        return bool(time) and time >= self.since and (not self.until or time < self.until)


@dataclass(slots=True)
class Remarks:
    """What a source reports besides its records.

    Attributes:
        findings: about the source itself, e.g. a damaged file.
        not_checked: what could not or need not be checked, as sentences.
        trimmed: by stream, up to which sequence records have left the source on purpose.
        suppressed: findings beyond the limit, counted but not kept: a file of garbage can have a million.
        unsealed: documents that the collector made itself and that no process sealed.
    """

    findings: list[Finding] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    trimmed: dict[str, int] = field(default_factory=dict)
    suppressed: int = 0
    unsealed: int = 0

    def note(self, found: Finding) -> None:
        """Keeps a finding about the source."""
        if len(self.findings) < _FINDINGS:
            self.findings.append(found)
        else:
            self.suppressed += 1


class Source(Protocol):
    """A place where sealed records are kept."""

    @property
    def name(self) -> str:
        """For the report; holds no secret."""
        ...

    @property
    def complete(self) -> bool:
        """Whether streams stay here for good, so that the absence of one means something."""
        ...

    @property
    def live(self) -> bool:
        """Whether records may still be on their way here, so that a fresh gap is worth a second check."""
        ...

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """Every record of the selection, in any order; records outside its window may be among them.

        Raises:
            SourceError: the source is absent, unreadable or refuses.
        """
        ...


def parse_moment(text: str) -> str:
    """A date or time as the user gives it (ISO 8601; without an offset: UTC), in the form of ``Selection``.

    Raises:
        SourceError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return from_datetime(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
    except (ValueError, OverflowError):
        raise SourceError(
            f"expected a date or time such as 2026-11-25 or 2026-11-25T03:30:00Z, found {text!r}"
        ) from None


def attribute_claims(attributes: Mapping[str, str | int]) -> tuple[str, str, str, int]:
    """Document id, hash, stream id and sequence from the attributes of a LogRecord; empty or 0 where absent."""
    get = attributes.get
    record_id, stated_hash, stream_id, sequence = (
        get("audit.record.id", ""),
        get("audit.integrity.value", ""),
        get("audit.sequence.stream_id", ""),
        get("audit.sequence.number", 0),
    )
    return (
        record_id if type(record_id) is str else str(record_id),
        stated_hash if type(stated_hash) is str else str(stated_hash),
        stream_id if type(stream_id) is str else str(stream_id),
        sequence if type(sequence) is int and sequence > 0 else 0,
    )
