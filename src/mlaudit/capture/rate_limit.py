"""What happens again and again is told once in a while, with a count."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS: Final = 60.0
MAX_KEPT: Final = 1000
Key = TypeVar("Key", bound=Hashable)


class Repeats(Generic[Key]):
    """Which of many like events are due to be told; bounded in memory, safe from any thread and in audit hooks.

    Args:
        window_seconds: how long after one was told its like are only counted.
        clock: seconds; for tests.
    """

    def __init__(
        self, window_seconds: float = WINDOW_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window = window_seconds
        self._clock = clock
        # No lock: an event may come out of whatever holds it. What two threads do at once may miscount by one.
        self._told: dict[Key, tuple[float, int]] = {}

    def due(self, key: Key) -> int | None:
        """How many of this key were not told since the last one that was; None where this one is not to be told."""
        now = self._clock()
        told = self._told.pop(key, None)
        if told is not None and now - told[0] < self._window:
            self._told[key] = (told[0], told[1] + 1)
            return None
        if told is None and len(self._told) >= MAX_KEPT:
            # The oldest goes, and with it what was counted of it.
            self._told.pop(next(iter(tuple(self._told)), key), None)
        self._told[key] = (now, 0)
        return 0 if told is None else told[1]

    def rest(self) -> dict[Key, int]:
        """What was counted and not told, by key; begins anew."""
        told, self._told = self._told, {}
        return {key: count for key, (_, count) in told.items() if count}


class Budget(Generic[Key]):
    """How many different events of one origin are told in a window, where a stranger chooses how many there are.

    Args:
        limit: of one key.
        window_seconds: after which a key has its budget again.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        limit: int,
        window_seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._window = window_seconds
        self._clock = clock
        self._spent: dict[Key, tuple[float, int]] = {}

    def left(self, key: Key) -> int:
        """Takes one, and returns how many are left after it: 0 is the last one, less is one too many."""
        now = self._clock()
        begun, spent = self._spent.pop(key, (now, 0))
        if now - begun >= self._window:
            begun, spent = now, 0
        if len(self._spent) >= MAX_KEPT:
            self._spent.pop(next(iter(tuple(self._spent)), key), None)
        self._spent[key] = (begun, spent + 1)
        return self._limit - spent - 1
