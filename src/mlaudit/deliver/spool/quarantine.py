"""The quarantine: rejected and unreadable records stay in the stream's folder for manual inspection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.frames import is_unfinished
from mlaudit.errors import SpoolUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.deliver.spool.frames import Frame, Unreadable

_logger = logging.getLogger("mlaudit")


class Damage(NamedTuple):
    """At least ``records`` records of the spool are lost; ``reason`` says why, and where the remaining bytes are."""

    records: int
    reason: str


def keep_frame(stream: Path, frame: Frame, reason: str) -> Path:
    """Quarantines a rejected frame with the reason; returns its path. Raises OSError, SpoolUnavailableError."""
    path = _folder(stream) / f"{frame.sequence:020d}.otlp"
    files.replace_file(path, frame.payload)
    files.replace_file(path.with_suffix(".reason"), reason.encode())
    return path


def keep_damage(segment: Path, piece: Unreadable, following: int) -> Damage | None:
    """Quarantines the unreadable bytes of a segment; ``following`` is the first sequence of the next segment, or 0.

    None when they are an interrupted write, or are already quarantined.
    """
    count = (piece.following or following) - piece.previous - 1
    if count <= 0 and is_unfinished(piece.data, piece.previous):
        return None
    path = layout.quarantine_folder(segment.parent) / f"{segment.stem}-{piece.start}.damaged"
    if path.exists():
        return None
    what = f"{len(piece.data)} bytes of {segment.name} from byte {piece.start} on cannot be read"
    try:
        _folder(segment.parent)
        files.replace_file(path, piece.data)
    except (OSError, SpoolUnavailableError) as error:
        return _logged(Damage(max(1, count), f"{what} and could not be kept: {error}"))
    return _logged(Damage(max(1, count), f"{what} and are kept in {path}"))


def note_missing(stream: Path, first: int, last: int) -> Damage | None:
    """Notes missing records; None when they were noted before."""
    path = layout.quarantine_folder(stream) / f"{first:020d}-{last:020d}.missing"
    if path.exists():
        return None
    try:
        _folder(stream)
        files.replace_file(path, b"")
    except (OSError, SpoolUnavailableError) as error:
        _logger.warning("%s: expected to note missing records, found %s", path, error)
    return _logged(
        Damage(last - first + 1, f"records {first} to {last} of {stream.name} are missing in the spool")
    )


def keep_segment(segment: Path, count: int, error: Exception) -> Damage:
    """Quarantines a whole segment that cannot be read.

    Raises:
        OSError, SpoolUnavailableError: it could not be moved.
    """
    path = _folder(segment.parent) / segment.name
    segment.rename(path)
    return _logged(Damage(max(1, count), f"{error}; it is kept in {path}"))


def _folder(stream: Path) -> Path:
    folder = layout.quarantine_folder(stream)
    files.make_folder(folder)
    return folder


def _logged(damage: Damage) -> Damage:
    _logger.error("damage in the audit spool, at least %d records: %s", damage.records, damage.reason)
    return damage
