"""Locks between processes: each is the lock of a file.

The kernel releases a lock when its holder dies, however it dies, so there is nothing to clean up, and no process id,
which another process may get, has to be trusted. A holder may remove its file, so a lock is valid only while its file
is still the one at the path.
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
    """Takes the lock of a file, which is created if absent. Does not wait.

    Returns:
        The descriptor, which releases the lock when it is closed; None when a living process holds the lock, or held
        it until now and removed the file.

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
        path: the file, which is created if absent.
        seconds: how long to wait for the lock; 0 does not wait.
        on_wait: called once before it waits.

    Raises:
        TimeoutError: other processes held it all the time.
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
    """Whether a living process holds the lock of a file; False when the file does not exist."""
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
    """Removes the file of a lock unless a living process holds it; returns whether the file is absent now.

    It is locked meanwhile, so that a process that takes the lock at the same time gets no lock of a removed file.
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
