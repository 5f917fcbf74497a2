"""Every write, fsync and rename of the spool but for the appends (``segment_file``).

A frame that a crash cut short fails its length or its CRC and ends the segment; ``frames`` has the format.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    Frame,
    cut_short,
    damaged_frame,
    frame,
    parse_frames,
)
from mlaudit.errors import DiskFullError, SpoolError, SpoolUnavailableError, UnreadableSegmentError
from mlaudit.safety.regular import open_regular

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "HEADER_BYTES",
    "MAX_PAYLOAD",
    "Ack",
    "Frame",
    "cut_short",
    "damaged_frame",
    "frame",
    "parse_frames",
]

_ACK: Final = struct.Struct("<QQQI")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# The file itself is the trouble, now and later; the rest (too many open files, no memory) passes.
_LASTING: Final = frozenset(
    {
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.EINVAL,
        errno.ELOOP,
        errno.ENXIO,
        errno.EUCLEAN,
        errno.EBADMSG,
    }
)


class Ack(NamedTuple):
    """How far a stream is acknowledged: up to ``offset`` in the segment that begins with ``segment``."""

    sequence: int
    segment: int
    offset: int


def read_frames(segment: Path) -> tuple[list[Frame], int]:
    """The frames of a segment, and how many bytes behind the last whole frame could not be read.

    Raises:
        SpoolError: the segment cannot be read at all.
    """
    data = read_range(segment, 0, -1)
    frames = list(parse_frames(data))
    return frames, len(data) - (frames[-1].end if frames else 0)


def read_range(segment: Path, start: int, size: int) -> bytes:
    """Up to ``size`` bytes of a segment from ``start`` on; -1 for all.

    Raises:
        UnreadableSegmentError: the segment cannot be read, and trying again will not help.
        SpoolError: it cannot be read now.
    """
    try:
        with open_regular(segment) as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        kind = UnreadableSegmentError if error.errno in _LASTING else SpoolError
        raise kind(f"{segment}: expected a readable segment, found {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Makes a folder that only its owner can enter, and its parents; their names survive a power failure.

    Raises:
        SpoolUnavailableError: it cannot be made or written.
    """
    try:
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True, mode=0o700)
            sync_folder(parent.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise unavailable(error, f"{folder}: expected a writable folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SpoolUnavailableError(
            f"{folder}: expected a writable folder, found one without write permission"
        )


def unavailable(error: OSError, expected: str) -> SpoolUnavailableError:
    """The error to raise when the disk refuses a write."""
    kind = DiskFullError if is_full(error) else SpoolUnavailableError
    return kind(f"{expected}, found {error.strerror}")


def is_full(error: OSError) -> bool:
    """Whether a full disk, or quota, is the reason."""
    return error.errno in _FULL


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
        with open_regular(layout.ack_file(stream)) as file:
            data = file.read(_ACK.size + 1)
    except OSError:
        return None
    if len(data) != _ACK.size or crc32(data[:-4]) != _ACK.unpack(data)[3]:
        return None
    sequence, segment, offset, _ = _ACK.unpack(data)
    return Ack(sequence, segment, offset)


def open_ack(stream: Path) -> int:
    """A descriptor for ``write_ack``."""
    descriptor = os.open(layout.ack_file(stream), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not os.fstat(descriptor).st_size:
        # Takes its block now: a disk that fills up must not keep what is acknowledged from being noted and removed.
        try:
            os.pwrite(descriptor, bytes(_ACK.size), 0)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def remove_stream(stream: Path) -> None:
    """Removes what is left of a stream whose segments are gone; its quarantine stays. The caller holds the lock."""
    for path in (layout.ack_file(stream), layout.status_file(stream), layout.lock_file(stream)):
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):  # something was set aside, or another process has just looked for the lock
        stream.rmdir()


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
        try:
            write_all(descriptor, content)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of ``data``; OSError when the disk takes only a part of it."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def sync_file(path: Path) -> None:
    """Returns only after fsync of a file that somebody else wrote. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut_file(path: Path, size: int) -> None:
    """Takes the end of a file off, and returns only after fsync. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
