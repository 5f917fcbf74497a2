"""Limits the rate of repeated events, and counts the suppressed ones."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from mlaudit.safety.bounded_map import BoundedMap

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS: Final = 60.0
MAX_KEPT: Final = 1000
Key = TypeVar("Key", bound=Hashable)


class RateLimit(Generic[Key]):
    """Allows ``limit`` events of a key in a window; bounded in memory, safe from any thread and in audit hooks.

    Args:
        limit: the number of events of one key in one window, which begins with the key's first event.
        seconds: the length of a window.
        kept: the number of keys that are kept; beyond it the least recent key is dropped with its count.
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
        # By key: the start of its window, the events in it, and those suppressed since the last allowed one.
        # No lock: an audit hook may run while its thread holds one. Two threads at once may miscount by one.
        self._windows: BoundedMap[Key, tuple[float, int, int]] = BoundedMap(kept)

    def __len__(self) -> int:
        """The number of keys that are kept."""
        return len(self._windows)

    def allow(self, key: Key) -> bool:
        """Counts one event; returns whether it is allowed."""
        return self.due(key) is not None

    def due(self, key: Key) -> int | None:
        """Counts one event; returns the number suppressed since the last allowed one, None if it is suppressed."""
        came, held_back = self._count(key)
        return held_back if came <= self._limit else None

    def left(self, key: Key) -> int:
        """Counts one event; returns how many more are allowed: 0 for the last one, negative when suppressed."""
        return self._limit - self._count(key)[0]

    def rest(self) -> dict[Key, int]:
        """The number suppressed since the last allowed event, by key; resets all counts."""
        windows, self._windows = self._windows, BoundedMap(self._kept)
        return {key: held_back for key, (_, _, held_back) in windows.items() if held_back}

    def _count(self, key: Key) -> tuple[int, int]:
        """The number of events in this window, and the number suppressed before this event."""
        now = self._clock()
        begun, came, held_back = self._windows.pop(key, (now, 0, 0))
        if now - begun >= self._seconds:
            begun, came = now, 0
        came += 1
        self._windows[key] = (begun, came, 0 if came <= self._limit else held_back + 1)
        return came, held_back
