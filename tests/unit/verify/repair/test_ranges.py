from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlaudit.verify.repair.ranges import Ranges

PAIRS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 8)), max_size=30)


@given(PAIRS, st.integers(1, 60), st.integers(0, 20))
def test_ranges_are_a_set(pairs: list[tuple[int, int]], first: int, more: int) -> None:
    """Numbers added in any order give the same content as a set, in the fewest ranges."""
    ranges, numbers = Ranges(), set[int]()
    for start, length in pairs:
        ranges.add(start, start + length)
        numbers |= set(range(start, start + length + 1))

    assert [number for low, high in ranges for number in range(low, high + 1)] == sorted(numbers)
    assert ranges.count == len(numbers)
    assert ranges.last == max(numbers, default=0)
    assert all(number in ranges for number in numbers)
    assert not any(number in ranges for number in set(range(80)) - numbers)
    bounds = list(ranges)
    assert all(following[0] > before[1] + 1 for before, following in pairwise(bounds))
    gaps = {number for low, high in ranges.gaps(first, first + more) for number in range(low, high + 1)}
    assert gaps == set(range(first, first + more + 1)) - numbers


def test_text_for_a_person() -> None:
    """The text has single numbers, ranges, and the number of omitted ones."""
    assert Ranges([(3, 3), (7, 9)]).text() == "3, 7-9"
    assert Ranges((number, number) for number in range(1, 40, 2)).text(2) == "1, 3 and 18 more ranges"
