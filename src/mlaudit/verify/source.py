"""What verification asks of a source, and how a path names one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from mlaudit.deliver import layout
from mlaudit.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlaudit.seal.finding import Finding
    from mlaudit.seal.stored import StoredRecord

_FINDINGS: Final = 10_000
ARCHIVE_NAME = re.compile(r"\.(jsonl|json|ndjson)(\.gz)?$")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records to look at.

    ``since`` and ``until`` are RFC 3339 in UTC with nanoseconds, so that they compare as text; until is exclusive.
    Each stream is looked at from its first to its last record in the window, by sequence.
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
        """Whether the stream is looked at."""
        return self.streams is None or stream_id in self.streams

    def takes_time(self, time: str) -> bool:
        """Whether the time is in the window."""
        return bool(time) and time >= self.since and (not self.until or time < self.until)


@dataclass(slots=True)
class Remarks:
    """What a source has to say besides its records.

    Attributes:
        findings: about the source itself, e.g. a damaged file.
        unlooked: what could not or need not be looked at, as sentences.
        trimmed: by stream, up to which sequence records have left the source on purpose.
        suppressed: findings beyond the limit, counted but not kept: a file of nothing but garbage has a million.
        unsealed: documents that the collector made itself and that no process sealed.
    """

    findings: list[Finding] = field(default_factory=list)
    unlooked: list[str] = field(default_factory=list)
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
        """Whether records may still be on their way here, so that a fresh gap is worth a second look."""
        ...

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """Every record of the selection, in any order; records outside its window may be among them.

        Raises:
            SourceError: the source is absent, unreadable or refuses.
        """
        ...


def open_source(path: Path) -> Source:
    """The source at ``path``: a spool folder, one stream of it, an archive file or a folder of those.

    Raises:
        SourceError: there is nothing, or nothing of these.
    """
    from mlaudit.verify.archive import ArchiveSource
    from mlaudit.verify.spool import SpoolSource

    if path.is_file():
        return ArchiveSource([path], path)
    if not path.is_dir():
        raise SourceError(
            f"{path}: expected a spool folder, an archive file or a folder of those, found nothing"
        )
    try:
        if layout.segments(path):
            return SpoolSource(path.parent, [path])
        folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and _is_stream(entry)]
        if folders:
            return SpoolSource(path, folders)
        files = sorted(
            entry for entry in path.rglob("*") if ARCHIVE_NAME.search(entry.name) and entry.is_file()
        )
    except OSError as error:
        raise SourceError(f"{path}: expected a readable folder, found {error.strerror}") from None
    if files:
        return ArchiveSource(files, path)
    raise SourceError(
        f"{path}: expected streams of a spool or files .jsonl, .json or .gz, found neither; an empty source proves "
        "nothing (a spool is empty once everything is delivered: verify the archive or Elasticsearch then)"
    )


def archive_files(path: Path) -> list[Path]:
    """The archive file at ``path``, or those of a folder.

    Raises:
        SourceError: there is none.
    """
    files = (
        [path]
        if path.is_file()
        else sorted(entry for entry in path.rglob("*") if ARCHIVE_NAME.search(entry.name) and entry.is_file())
    )
    if not files:
        raise SourceError(f"{path}: expected an archive file, or a folder with some, found none")
    return files


def parse_moment(text: str) -> str:
    """A date or time as the user gives it (ISO 8601; without an offset: UTC), in the form of ``Selection``.

    Raises:
        SourceError: it is no such thing.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise SourceError(
            f"expected a date or time such as 2026-11-25 or 2026-11-25T03:30:00Z, found {text!r}"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


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


def _is_stream(folder: Path) -> bool:
    return layout.lock_file(folder).exists() or bool(layout.segments(folder))
