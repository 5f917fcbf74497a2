"""Every write, fsync and rename of the spool except the appends (``segment_file``).

A frame that a crash cut short fails its length or its CRC and ends the segment; ``frames`` defines the format.
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
# Errors of the file itself, which persist; others (too many open files, no memory) are transient.
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
    """The acknowledged position of a stream: ``offset`` in the segment that begins with sequence ``segment``."""

    sequence: int
    segment: int
    offset: int


def read_frames(segment: Path) -> tuple[list[Frame], int]:
    """The frames of a segment, and the number of unreadable bytes after the last whole frame.

    Raises:
        SpoolError: the segment cannot be read.
    """
    data = read_range(segment, 0, -1)
    frames = list(parse_frames(data))
    return frames, len(data) - (frames[-1].end if frames else 0)


def read_range(segment: Path, start: int, size: int) -> bytes:
    """Up to ``size`` bytes of a segment from ``start`` on; -1 for all.

    Raises:
        UnreadableSegmentError: the segment cannot be read, and a retry will not help.
        SpoolError: it cannot be read at the moment.
    """
    try:
        with open_regular(segment) as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        kind = UnreadableSegmentError if error.errno in _LASTING else SpoolError
        raise kind(f"{segment}: expected a readable segment, found {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Creates a folder that only its owner can enter, and its parents; their names survive a power failure.

    Raises:
        SpoolUnavailableError: it cannot be created or written.
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
    """Whether a full disk or an exhausted quota is the reason."""
    return error.errno in _FULL


def write_ack(descriptor: int, ack: Ack) -> None:
    """Writes the acknowledged position of a stream.

    Not synced: after a power failure an older position only means that records are sent again, which their document
    ids make harmless.
    """
    body = struct.pack("<QQQ", *ack)
    os.pwrite(descriptor, body + struct.pack("<I", crc32(body)), 0)


def read_ack(stream: Path) -> Ack | None:
    """The acknowledged position of a stream; None when nothing is acknowledged, or the file is damaged."""
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
        # Allocates the block now: a full disk must not prevent acknowledged records from being noted and removed.
        try:
            os.pwrite(descriptor, bytes(_ACK.size), 0)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def remove_stream(stream: Path) -> None:
    """Removes the rest of a stream whose segments are deleted; its quarantine stays. The caller holds the lock."""
    for path in (layout.ack_file(stream), layout.status_file(stream), layout.lock_file(stream)):
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):  # the quarantine is not empty, or another process has just opened the lock
        stream.rmdir()


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replaces ``path`` with ``content`` atomically: a crash leaves either the old or the new file, whole.

    Without ``sync`` this covers the crash of a process, but not a power failure.
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
    """Writes all of ``data``; raises OSError when the disk stores only a part of it."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def sync_file(path: Path) -> None:
    """Returns only after an fsync of a file that another process wrote. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut_file(path: Path, size: int) -> None:
    """Truncates a file, and returns only after an fsync. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
