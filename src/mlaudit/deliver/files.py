"""Every write, fsync, lock and rename of the spool.

A frame that a crash cut short fails its length or its CRC and ends the segment; ``frames`` has the format.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from mlaudit.deliver import layout
from mlaudit.deliver.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    Frame,
    cut_short,
    damaged_frame,
    frame,
    parse_frames,
)
from mlaudit.errors import DiskFullError, SpoolError, SpoolUnavailableError, UnreadableSegmentError
from mlaudit.regular import open_regular

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "HEADER_BYTES",
    "MAX_PAYLOAD",
    "Ack",
    "Frame",
    "SegmentFile",
    "cut_short",
    "damaged_frame",
    "frame",
    "parse_frames",
]

_ACK: Final = struct.Struct("<QQQI")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
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
        raise unavailable(error, f"{path}: expected to open the lock") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it may have drained the stream and removed the file that we opened.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def is_locked(stream: Path) -> bool:
    """Whether a living process holds the stream's lock."""
    try:
        descriptor = os.open(layout.lock_file(stream), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def boot_id() -> str:
    """What the kernel calls its present run, "" where it does not say."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:  # noqa: PTH123 - no path of ours
            return file.read().strip()
    except OSError:
        return ""


def note_boot(lock: int) -> None:
    """Keeps the boot id in the stream's lock file, for whoever adopts the stream. Returns only after fsync."""
    write_all(lock, boot_id().encode())
    os.fsync(lock)


def noted_boot(lock: int) -> str:
    """The boot id that the maker of the stream noted, or ""."""
    return os.pread(lock, 100, 0).decode("ascii", "replace").strip()


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


class SegmentFile:
    """One segment, open for appending. Its owner orders the calls.

    Attributes:
        size: bytes of whole frames in it. ``synced`` of them the disk has confirmed.
        torn: nothing may be appended any more: bytes behind ``size`` could not be undone, or a sync failed.
        last_sequence: of its last frame, set by the owner once it takes no more.
    """

    __slots__ = ("_descriptor", "first_sequence", "last_sequence", "path", "size", "synced", "torn")

    def __init__(self, path: Path) -> None:
        """Makes the segment.

        Raises:
            SpoolUnavailableError: it cannot be opened.
        """
        self.path = path
        self.first_sequence = self.last_sequence = layout.first_sequence(path)
        self.size = self.synced = 0
        self.torn = False
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._descriptor, 0)
            sync_folder(path.parent)
        except OSError as error:
            self.close()
            raise unavailable(error, f"{path}: expected to open a segment") from None

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
            raise unavailable(error, f"{self.path}: expected to write") from None
        self.size += len(data)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            self.torn = True

    def sync(self, size: int) -> None:
        """Returns only after fdatasync, which covers the first ``size`` bytes.

        Raises:
            SpoolUnavailableError: the disk did not confirm; what was written since the last sync is in doubt.
        """
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise unavailable(error, f"{self.path}: expected to sync") from None
        self.synced = size

    def close(self) -> None:
        """Closes the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
