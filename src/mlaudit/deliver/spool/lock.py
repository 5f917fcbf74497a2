"""The lock of a stream: who holds it writes or drains the stream, and nobody else."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

from mlaudit.deliver.spool import files, layout

if TYPE_CHECKING:
    from pathlib import Path

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


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
        raise files.unavailable(error, f"{path}: expected to open the lock") from None
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
    return is_held(layout.lock_file(stream))


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock of a file; False where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
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
    files.write_all(lock, boot_id().encode())
    os.fsync(lock)


def noted_boot(lock: int) -> str:
    """The boot id that the maker of the stream noted, or ""."""
    return os.pread(lock, 100, 0).decode("ascii", "replace").strip()
