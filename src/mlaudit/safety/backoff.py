"""The wait before the next attempt: longer after each failure, up to a limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def unchanged(seconds: float) -> float:
    """No jitter."""
    return seconds


class Backoff:
    """The pauses between repeated attempts. For one thread.

    Args:
        first: seconds of the first pause.
        limit: seconds of the longest pause.
        factor: the factor by which each pause is longer than the previous one.
        jitter: changes a pause before it is used, so that clients that failed together do not retry together.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_due", "_factor", "_first", "_jitter", "_limit", "_next")

    def __init__(
        self,
        first: float,
        limit: float,
        *,
        factor: float = 2.0,
        jitter: Callable[[float], float] = unchanged,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first
        self._limit = limit
        self._factor = factor
        self._jitter = jitter
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """After a success: the next attempt is due at once, and the next pause is the first one."""
        self._next = self._first
        self._due = 0.0

    def pause(self) -> float:
        """The seconds to wait now; the next pause is longer."""
        seconds = min(self._next, self._limit)
        self._next = min(seconds * self._factor, self._limit)
        return self._jitter(seconds)

    def defer(self) -> None:
        """After a failure, without waiting: the next attempt is due when the pause is over."""
        self._due = self._clock() + self.pause()

    @property
    def is_due(self) -> bool:
        """Whether a deferred attempt is due."""
        return self._clock() >= self._due
