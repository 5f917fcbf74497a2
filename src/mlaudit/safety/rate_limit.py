"""What happens again and again is let through a few times in a while; the rest is counted."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS: Final = 60.0
MAX_KEPT: Final = 1000
Key = TypeVar("Key", bound=Hashable)


class RateLimit(Generic[Key]):
    """Lets through ``limit`` events of a key in a window; bounded in memory, safe from any thread and in audit hooks.

    Args:
        limit: of one key in one window, which begins with the first event of it.
        seconds: how long a window is.
        kept: how many keys are remembered; of further ones the least recent is forgotten with its count.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        limit: int = 1,
        seconds: float = WINDOW_SECONDS,
        *,
        kept: int = MAX_KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._kept = kept
        self._clock = clock
        # By key: when its window began, how many came in it, how many were held back since the last let through.
        # No lock: an event may come out of whatever holds it. What two threads do at once may miscount by one.
        self._windows: dict[Key, tuple[float, int, int]] = {}

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._windows)

    def allow(self, key: Key) -> bool:
        """Counts one event; returns whether it is let through."""
        return self.due(key) is not None

    def due(self, key: Key) -> int | None:
        """Counts one event; returns how many were held back since the last let through, None if this one is as well."""
        came, held_back = self._count(key)
        return held_back if came <= self._limit else None

    def left(self, key: Key) -> int:
        """Counts one event; returns how many more are let through: 0 is the last one, less is one too many."""
        return self._limit - self._count(key)[0]

    def rest(self) -> dict[Key, int]:
        """How many were held back since the last let through, by key; begins anew."""
        windows, self._windows = self._windows, {}
        return {key: held_back for key, (_, _, held_back) in windows.items() if held_back}

    def _count(self, key: Key) -> tuple[int, int]:
        """How many came in this window, and how many were held back before this one."""
        now = self._clock()
        begun, came, held_back = self._windows.pop(key, (now, 0, 0))
        if now - begun >= self._seconds:
            begun, came = now, 0
        came += 1
        if len(self._windows) >= self._kept:
            self._windows.pop(next(iter(tuple(self._windows)), key), None)
        self._windows[key] = (begun, came, 0 if came <= self._limit else held_back + 1)
        return came, held_back
