"""The format of a segment. Pure: bytes in, frames out.

A frame is a header, little-endian: payload length (u32), CRC-32 (u32) over the rest of the header and the payload,
sequence (u64), SHA-256 of the record body (32 bytes); then the payload, a serialised OTLP LogRecord.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = struct.Struct("<IIQ32s")
_PLACE: Final = struct.Struct("<Q32s")
_SEARCHED: Final = struct.Struct("<IIQ")
HEADER_BYTES: Final = _HEADER.size
MAX_PAYLOAD: Final = 64 << 20
# No stream reaches 2^40 records, so the last three bytes of a sequence are zero, which is rare elsewhere.
_ZEROS: Final = re.compile(rb"\x00{3,}")
_SEQUENCE_ZEROS_AT: Final = 13


class Frame(NamedTuple):
    """One frame as read; ``end`` is the offset after it in its segment."""

    sequence: int
    digest: bytes
    payload: bytes
    end: int


class Unreadable(NamedTuple):
    """A part of a segment without a readable frame.

    ``previous`` and ``following`` are the sequences before and after it; ``following`` is 0 when there is none.
    """

    start: int
    data: bytes
    previous: int
    following: int


def frame(sequence: int, digest: bytes, payload: bytes) -> bytes:
    """The bytes of one frame."""
    check = crc32(payload, crc32(_PLACE.pack(sequence, digest)))
    return _HEADER.pack(len(payload), check, sequence, digest) + payload


def parse_frames(data: bytes | memoryview, offset: int = 0) -> Iterator[Frame]:
    """The whole, undamaged frames of ``data``, up to the first damaged one.

    ``offset`` is where ``data`` begins in its segment; the frames' ``end`` counts from the segment's start.
    """
    position = 0
    while position + HEADER_BYTES <= len(data):
        length, check, sequence, digest = _HEADER.unpack_from(data, position)
        begin = position + HEADER_BYTES
        end = begin + length
        if length > MAX_PAYLOAD or end > len(data):
            return
        payload = data[begin:end]
        if crc32(payload, crc32(data[position + 8 : begin])) != check:
            return
        yield Frame(sequence, digest, bytes(payload), offset + end)
        position = end


def cut_short(data: bytes | memoryview) -> bool:
    """Whether ``data`` is the beginning of a frame that a crash cut short, rather than a damaged frame."""
    return len(data) < HEADER_BYTES or HEADER_BYTES + _HEADER.unpack_from(data)[0] > len(data)


def damaged_frame(data: bytes | memoryview, offset: int = 0) -> Frame | None:
    """The frame at the beginning of ``data`` regardless of its CRC, or None when it was cut short.

    For a reader that reports a damaged frame and continues after it; its content must not be trusted.
    """
    if cut_short(data):
        return None
    length, _, sequence, digest = _HEADER.unpack_from(data)
    end = HEADER_BYTES + length
    return Frame(sequence, digest, bytes(data[HEADER_BYTES:end]), offset + end)


def find_frame(data: bytes | memoryview, previous: int) -> int:
    """The offset of the first whole frame of ``data`` with a sequence after ``previous``, or -1.

    A header is checked only where its sequence is plausible: after ``previous``, by at most as many records as fit
    into the bytes before it. So garbage costs one pass and rarely a CRC.
    """
    for zeros in _ZEROS.finditer(data):
        first = max(0, zeros.start() - _SEQUENCE_ZEROS_AT)
        last = min(zeros.start() - 8, zeros.end() - _SEQUENCE_ZEROS_AT - 3)
        for start in range(first, last + 1):
            if _is_frame(data, start, previous):
                return start
    return -1


def read_pieces(data: bytes, previous: int) -> Iterator[Frame | Unreadable]:
    """Everything in a segment: its frames, and the unreadable parts between and after them.

    ``previous`` is the sequence before the segment.
    """
    position = 0
    view = memoryview(data)  # a segment with a thousand damaged parts must not be copied a thousand times
    while position < len(data):
        for found in parse_frames(view[position:] if position else data, position):
            yield found
            position, previous = found.end, max(previous, found.sequence)
        rest = view[position:]
        skipped = find_frame(rest, previous)
        if skipped < 0:
            skipped = len(rest)
        if skipped:
            following = next(parse_frames(rest[skipped:]), None)
            yield Unreadable(
                position, bytes(rest[:skipped]), previous, following.sequence if following else 0
            )
        position += skipped


def _is_frame(data: bytes | memoryview, start: int, previous: int) -> bool:
    begin = start + HEADER_BYTES
    if begin > len(data):
        return False
    length, check, sequence = _SEARCHED.unpack_from(data, start)
    end = begin + length
    if not previous < sequence <= previous + 1 + start // HEADER_BYTES:
        return False
    if length > MAX_PAYLOAD or end > len(data):
        return False
    found: int = crc32(data[begin:end], crc32(data[start + 8 : begin]))
    return bool(found == check)


def is_unfinished(data: bytes, previous: int) -> bool:
    """Whether ``data``, the end of a segment, is an interrupted write: zeros, or the beginning of a frame."""
    if len(data) < _SEARCHED.size or not any(data):
        return True
    length, _, sequence = _SEARCHED.unpack_from(data)
    return cut_short(data) and length <= MAX_PAYLOAD and sequence == previous + 1
