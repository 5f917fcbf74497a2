"""Sets of sequences, kept as ranges: a million in a row cost as much as one."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Ranges:
    """Whole numbers of 1 or more as sorted, separate ranges, ends included."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int = 0) -> None:
        """Adds one number, or all from ``first`` to ``last``."""
        last = last or first
        firsts, lasts = self._firsts, self._lasts
        if not lasts or first > lasts[-1] + 1:
            firsts.append(first)
            lasts.append(last)
            return
        if first >= firsts[-1]:
            lasts[-1] = max(lasts[-1], last)
            return
        # Those from ``low`` to ``high`` touch the new one and become one with it.
        low = bisect_right(lasts, first - 2)
        high = bisect_right(firsts, last + 1)
        if low < high:
            first, last = min(first, firsts[low]), max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._firsts, number) - 1
        return index >= 0 and number <= self._lasts[index]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """How many numbers these are."""
        return sum(last - first + 1 for first, last in self)

    @property
    def last(self) -> int:
        """The greatest, 0 when empty."""
        return self._lasts[-1] if self._lasts else 0

    def gaps(self, first: int, last: int) -> Ranges:
        """Those from ``first`` to ``last`` that are not in here."""
        missing = Ranges()
        at = first
        for begin, end in self:
            if end < at:
                continue
            if begin > last:
                break
            if begin > at:
                missing.add(at, begin - 1)
            at = end + 1
        if at <= last:
            missing.add(at, last)
        return missing

    def text(self, shown: int = 8) -> str:
        """For a person: ``3, 7-9``; at most ``shown`` ranges."""
        parts = [
            str(first) if first == last else f"{first}-{last}"
            for first, last in zip(self._firsts[:shown], self._lasts[:shown], strict=True)
        ]
        hidden = len(self._firsts) - shown
        return ", ".join(parts) + (f" and {hidden} more ranges" if hidden > 0 else "")
