"""Finds sequences of records within a sliding window. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of time in which a sequence was complete at least once, in nanoseconds since the epoch."""

    first: int
    last: int


def episodes(
    hits: Iterable[tuple[int, AbstractSet[int]]], counts: Sequence[int], window_seconds: int
) -> list[Episode]:
    """Every episode in which ``counts[0]`` hits of step 0, then ``counts[1]`` of step 1, … fit in the window.

    The window slides: it begins at any hit, not at fixed times, so that no burst falls between two windows.
    Both ends belong to it. Sequences that overlap are one episode.

    Args:
        hits: time in nanoseconds and the numbers of the steps that the record matches, in order of time.
        counts: how many hits each step needs; a hit serves one step of a sequence only.
        window_seconds: longest time from the first to the last hit of a sequence.
    """
    window = window_seconds * NANOSECONDS
    # For each step the latest possible beginnings of sequences that are complete up to it: the n-th from
    # the right began with the n-th last hit. Beginnings only grow, so the oldest that is kept is the best.
    beginnings: list[deque[int]] = [deque(maxlen=count) for count in counts]
    found: list[Episode] = []
    for time, matched in hits:
        # From the last step to the first, so that one hit is not counted in two steps at once.
        for step in reversed(range(len(counts))):
            if step not in matched:
                continue
            if step == 0:
                beginning = time
            elif len(beginnings[step - 1]) == counts[step - 1]:
                beginning = beginnings[step - 1][0]
            else:
                continue
            beginnings[step].append(beginning)
            complete = step == len(counts) - 1 and len(beginnings[step]) == counts[step]
            if complete and time - beginnings[step][0] <= window:
                _extend(found, Episode(beginnings[step][0], time))
    return found


def may_fit(buckets: Mapping[int, int], count: int) -> bool:
    """Whether ``count`` hits can lie within one window, given their number per bucket of the window's length.

    A window touches at most two neighbouring buckets; keys are bucket numbers.
    """
    return any(number + buckets.get(bucket + 1, 0) >= count for bucket, number in buckets.items())


def _extend(found: list[Episode], new: Episode) -> None:
    if found and new.first <= found[-1].last:
        found[-1] = Episode(min(found[-1].first, new.first), new.last)
    else:
        found.append(new)
