"""Every path of the spool, in one place.

::

    <spool>/<stream id>/lock           held (flock) by the process that writes or drains the stream
    <spool>/<stream id>/ack            the position that the receiver has acknowledged
    <spool>/<stream id>/status         the status of its process, for mlaudit status (JSON)
    <spool>/<stream id>/<first>.seg    frames from sequence <first> on (20 digits, so that names sort)
    <spool>/<stream id>/quarantine/    rejected and unreadable records, kept for manual inspection;
                                       it stays when the rest of the stream is delivered and removed
    <spool>/retained/<stream id>/      delivered segments, kept for ``mlaudit resend``
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT_SUFFIX: Final = ".seg"
RETAINED: Final = "retained"
_DIGITS: Final = 20
_SEGMENT_NAME: Final = re.compile(rf"[0-9]{{{_DIGITS}}}{re.escape(SEGMENT_SUFFIX)}")


def stream_folder(spool: Path, stream_id: str) -> Path:
    """The folder of one stream."""
    return spool / stream_id


def lock_file(stream: Path) -> Path:
    """The lock of a stream folder."""
    return stream / "lock"


def ack_file(stream: Path) -> Path:
    """The acknowledged position of a stream folder."""
    return stream / "ack"


def status_file(stream: Path) -> Path:
    """The status file of the process that writes a stream."""
    return stream / "status"


def quarantine_folder(stream: Path) -> Path:
    """The folder of a stream's quarantined frames."""
    return stream / "quarantine"


def segment_file(stream: Path, first_sequence: int) -> Path:
    """The segment that begins with ``first_sequence``."""
    return stream / f"{first_sequence:0{_DIGITS}d}{SEGMENT_SUFFIX}"


def segments(stream: Path) -> list[Path]:
    """The segments of a stream folder, oldest first; empty when the folder has just been removed."""
    try:
        return sorted(entry for entry in stream.iterdir() if _SEGMENT_NAME.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def first_sequence(segment: Path) -> int:
    """The first sequence of a segment."""
    return int(segment.stem)


def streams(spool: Path) -> list[Path]:
    """The stream folders of a spool, oldest first (stream ids are time-ordered).

    A folder without a lock file but with segments is included: their records may not be delivered.
    """
    return [entry for entry in _folders(spool) if lock_file(entry).exists() or segments(entry)]


def quarantined_streams(spool: Path) -> list[Path]:
    """The stream folders with quarantined records, delivered or not, oldest first."""
    return [entry for entry in _folders(spool) if quarantine_folder(entry).is_dir()]


def retained_folder(spool: Path) -> Path:
    """The folder of delivered segments until their retention ends."""
    return spool / RETAINED


def retained_streams(spool: Path) -> list[Path]:
    """The folders of streams with delivered segments, oldest first; ``segments`` lists the content of one."""
    return [entry for entry in _folders(retained_folder(spool)) if segments(entry)]


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(entry for entry in parent.iterdir() if entry.is_dir())
    except OSError:
        return []
