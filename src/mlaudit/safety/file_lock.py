"""Locks that exclude processes from each other: each is the lock of a file.

The kernel releases a lock when its holder dies, however it dies, so there is nothing to clean up and no number of a
process, which another may get, to believe. A holder may remove its file; what was locked then is the lock of nothing,
so a lock counts only while its file is still the one at the path.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mlaudit.safety.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FIRST_PAUSE: Final = 0.001
_LAST_PAUSE: Final = 0.05


def try_lock(path: Path) -> int | None:
    """Takes the lock of a file, made if absent. Does not wait.

    Returns:
        The descriptor, whose closing releases the lock; None when a living process holds the lock, or held it until
        now and removed the file.

    Raises:
        OSError: the file cannot be opened, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextmanager
def locked(
    path: Path, seconds: float = math.inf, on_wait: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Holds the lock of a file for the block; see ``try_lock``.

    Args:
        path: the file, made if absent.
        seconds: how long to wait for it; 0 does not wait.
        on_wait: called once if there is anything to wait for.

    Raises:
        TimeoutError: others held it all the time.
        OSError: see ``try_lock``.
    """
    deadline = time.monotonic() + seconds
    backoff = Backoff(_FIRST_PAUSE, _LAST_PAUSE)
    waiting = False
    while (descriptor := try_lock(path)) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                errno.ETIMEDOUT, f"its lock, which another process held for {seconds:g} s", path
            )
        if not waiting:
            waiting = True
            on_wait()
        time.sleep(min(backoff.pause(), left))
    try:
        yield
    finally:
        os.close(descriptor)


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


def remove_unheld(path: Path) -> bool:
    """Removes the file of a lock unless a living process holds it; returns whether there is no such file now.

    It is locked meanwhile: who takes the lock at the same time does not end up with the lock of nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        path.unlink(missing_ok=True)
        return True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
