"""The lock of a stream: only the process that holds it writes or drains the stream."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from mlaudit.deliver.spool import files, layout
from mlaudit.safety.file_lock import is_held, try_lock

if TYPE_CHECKING:
    from pathlib import Path

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


def take_lock(stream: Path) -> int | None:
    """Takes the stream's lock and returns its descriptor; None when a living process holds it, or drained the stream.

    Raises:
        SpoolUnavailableError: the lock file cannot be opened or locked.
    """
    path = layout.lock_file(stream)
    try:
        return try_lock(path)
    except OSError as error:
        raise files.unavailable(error, f"{path}: expected to take the lock") from None


def is_locked(stream: Path) -> bool:
    """Whether a living process holds the stream's lock."""
    return is_held(layout.lock_file(stream))


def boot_id() -> str:
    """What the kernel calls its present run, "" where it does not say."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:  # noqa: PTH123 - no path of ours
            return file.read().strip()
    except OSError:
        return ""


def note_boot(lock: int) -> None:
    """Keeps the boot id in the stream's lock file, for the process that adopts it. Returns only after fsync."""
    files.write_all(lock, boot_id().encode())
    os.fsync(lock)


def noted_boot(lock: int) -> str:
    """The boot id that the maker of the stream noted, or ""."""
    return os.pread(lock, 100, 0).decode("ascii", "replace").strip()
