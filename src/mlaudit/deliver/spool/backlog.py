"""Reads how much waits in a stream folder, for metrics and status, also of other processes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.files import HEADER_BYTES, Ack, read_frames, read_range
from mlaudit.errors import SpoolError

if TYPE_CHECKING:
    from pathlib import Path

_SEQUENCE: Final = struct.Struct("<Q")
_SEQUENCE_AT: Final = 8
# A LogRecord as ``otlp`` writes it begins with its time: one key byte, eight bytes of nanoseconds.
_TIME: Final = struct.Struct("<BQ")
_TIME_KEY: Final = 0x09


def oldest_waiting(stream: Path, ack: Ack) -> int:
    """The time of the first record after ``ack``, nanoseconds since the epoch; 0 when it is unknown."""
    places = [(ack.segment, ack.offset)]
    places += [
        (first, 0) for path in layout.segments(stream) if (first := layout.first_sequence(path)) > ack.segment
    ]
    for segment, offset in places:
        try:
            head = read_range(layout.segment_file(stream, segment), offset, HEADER_BYTES + _TIME.size)
        except SpoolError:
            continue
        if len(head) < HEADER_BYTES + _TIME.size:
            continue
        (sequence,) = _SEQUENCE.unpack_from(head, _SEQUENCE_AT)
        key, time = _TIME.unpack_from(head, HEADER_BYTES)
        return time if key == _TIME_KEY and sequence > ack.sequence else 0
    return 0


def last_sequence(stream: Path) -> int:
    """The sequence of the newest whole frame of a stream folder, read from its newest segments; 0 for none."""
    for path in reversed(layout.segments(stream)):
        try:
            frames, _ = read_frames(path)
        except SpoolError:
            continue
        if frames:
            return frames[-1].sequence
    return 0


def waiting_bytes(stream: Path, ack: Ack | None) -> int:
    """Bytes of segments after ``ack``."""
    total = 0
    for path in layout.segments(stream):
        first = layout.first_sequence(path)
        try:
            size = path.stat().st_size
        except OSError:
            continue  # sent and removed meanwhile
        if ack is None or first > ack.segment:
            total += size
        elif first == ack.segment:
            total += max(0, size - ack.offset)
    return total


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 when it does not exist."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
