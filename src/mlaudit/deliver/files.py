"""Frames on disk, and every write, fsync, lock and rename of the spool.

A frame is a header, little-endian: payload length (u32), CRC-32 (u32) over the rest of the header and the payload,
sequence (u64), SHA-256 of the record body (32 bytes); then the payload, a serialised OTLP LogRecord.
A frame that a crash cut short fails its length or its CRC and ends the segment.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from mlaudit.deliver import layout
from mlaudit.errors import SpoolError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEADER: Final = struct.Struct("<IIQ32s")
_PLACE: Final = struct.Struct("<Q32s")
HEADER_BYTES: Final = _HEADER.size
MAX_PAYLOAD: Final = 64 << 20
_ACK: Final = struct.Struct("<QQQI")


class Frame(NamedTuple):
    """One frame as read; ``end`` is the offset behind it in its segment."""

    sequence: int
    digest: bytes
    payload: bytes
    end: int


class Ack(NamedTuple):
    """How far a stream is acknowledged: up to ``offset`` in the segment that begins with ``segment``."""

    sequence: int
    segment: int
    offset: int


def frame(sequence: int, digest: bytes, payload: bytes) -> bytes:
    """The bytes of one frame."""
    check = crc32(payload, crc32(_PLACE.pack(sequence, digest)))
    return _HEADER.pack(len(payload), check, sequence, digest) + payload


def parse_frames(data: bytes, offset: int = 0) -> Iterator[Frame]:
    """The whole, undamaged frames of ``data``; stops before the first that is not.

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
        yield Frame(sequence, digest, payload, offset + end)
        position = end


def cut_short(data: bytes) -> bool:
    """Whether ``data`` is the beginning of a frame that a crash cut off, rather than a damaged frame."""
    return len(data) < HEADER_BYTES or HEADER_BYTES + _HEADER.unpack_from(data)[0] > len(data)


def damaged_frame(data: bytes, offset: int = 0) -> Frame | None:
    """The frame at the beginning of ``data`` whatever its CRC says, or None when it was cut short.

    For a reader that names what was damaged and goes on behind it; nothing in it is to be trusted.
    """
    if cut_short(data):
        return None
    length, _, sequence, digest = _HEADER.unpack_from(data)
    end = HEADER_BYTES + length
    return Frame(sequence, digest, data[HEADER_BYTES:end], offset + end)


def read_frames(segment: Path) -> tuple[list[Frame], int]:
    """The frames of a segment, and how many bytes behind the last whole frame could not be read.

    Raises:
        SpoolError: the segment cannot be read at all.
    """
    try:
        data = segment.read_bytes()
    except OSError as error:
        raise SpoolError(f"{segment}: expected a readable segment, found {error.strerror}") from None
    frames = list(parse_frames(data))
    return frames, len(data) - (frames[-1].end if frames else 0)


def read_range(segment: Path, start: int, size: int) -> bytes:
    """Up to ``size`` bytes of a segment from ``start`` on.

    Raises:
        SpoolError: the segment cannot be read.
    """
    try:
        with segment.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise SpoolError(f"{segment}: expected a readable segment, found {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Makes a folder that only its owner can enter, and its parents.

    Raises:
        SpoolUnavailableError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SpoolUnavailableError(f"{folder}: expected a writable folder, found {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SpoolUnavailableError(
            f"{folder}: expected a writable folder, found one without write permission"
        )


def take_lock(stream: Path) -> int | None:
    """Takes the stream's lock and returns its descriptor, or None when a living process holds it.

    The kernel lets go of the lock when the holder dies, however it dies.

    Raises:
        SpoolUnavailableError: the lock file cannot be opened.
    """
    path = layout.lock_file(stream)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolUnavailableError(f"{path}: expected to open the lock, found {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(stream: Path) -> bool:
    """Whether a living process holds the stream's lock."""
    descriptor = take_lock(stream)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def write_ack(descriptor: int, ack: Ack) -> None:
    """Notes how far a stream is acknowledged.

    Not synced: after a power failure an older note only means that records are sent again, and their document
    ids make that harmless.
    """
    body = struct.pack("<QQQ", *ack)
    os.pwrite(descriptor, body + struct.pack("<I", crc32(body)), 0)


def read_ack(stream: Path) -> Ack | None:
    """How far a stream is acknowledged; None when nothing is, or the note is damaged."""
    try:
        data = layout.ack_file(stream).read_bytes()
    except OSError:
        return None
    if len(data) != _ACK.size or crc32(data[:-4]) != _ACK.unpack(data)[3]:
        return None
    sequence, segment, offset, _ = _ACK.unpack(data)
    return Ack(sequence, segment, offset)


def open_ack(stream: Path) -> int:
    """A descriptor for ``write_ack``."""
    return os.open(layout.ack_file(stream), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Puts ``content`` at ``path`` so that a crash leaves either the old or the new file, whole.

    Without ``sync`` that holds for the crash of a process, not for a power failure.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


class SegmentFile:
    """One segment, open for appending. Its owner orders the calls."""

    __slots__ = ("_descriptor", "first_sequence", "path", "size", "torn")

    def __init__(self, path: Path) -> None:
        """Makes the segment. ``torn`` tells when bytes behind ``size`` could not be undone.

        Raises:
            SpoolUnavailableError: it cannot be opened.
        """
        self.path = path
        self.first_sequence = layout.first_sequence(path)
        self.size = 0
        self.torn = False
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._descriptor, 0)
            sync_folder(path.parent)
        except OSError as error:
            raise SpoolUnavailableError(
                f"{path}: expected to open a segment, found {error.strerror}"
            ) from None

    def append(self, data: bytes) -> None:
        """Hands ``data`` to the operating system; returns when a kill -9 of this process cannot lose it.

        Raises:
            SpoolUnavailableError: nothing of ``data`` is in the file (disk full, quota, I/O error).
        """
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            self._cut()
            raise SpoolUnavailableError(f"{self.path}: expected to write, found {error.strerror}") from None
        self.size += len(data)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            self.torn = True

    def sync(self) -> None:
        """Returns only after fdatasync.

        Raises:
            SpoolUnavailableError: the disk did not confirm; what was written since the last sync is in doubt.
        """
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise SpoolUnavailableError(f"{self.path}: expected to sync, found {error.strerror}") from None

    def close(self) -> None:
        """Closes the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
