"""The sliding window against a search through every choice of hits."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlaudit.detect.window import NANOSECONDS, episodes, may_fit

HITS = st.lists(
    st.tuples(st.integers(0, 40), st.sets(st.integers(0, 1), min_size=1, max_size=2)), max_size=9
).map(lambda found: [(time * NANOSECONDS, steps) for time, steps in sorted(found, key=lambda one: one[0])])


def fits(hits: list[tuple[int, set[int]]], counts: list[int], window: int) -> bool:
    """Whether any choice of hits, in their order, makes the sequence."""
    wanted = [step for step, count in enumerate(counts) for _ in range(count)]
    return any(
        chosen[-1][0] - chosen[0][0] <= window * NANOSECONDS
        and all(step in hit[1] for step, hit in zip(wanted, chosen, strict=True))
        for chosen in combinations(hits, len(wanted))
    )


@given(HITS, st.lists(st.integers(1, 3), min_size=1, max_size=2), st.integers(1, 20))
def test_an_episode_is_found_exactly_when_there_is_a_sequence(
    hits: list[tuple[int, set[int]]], counts: list[int], window: int
) -> None:
    """The sliding window finds something if and only if trying every choice of hits does."""
    assert bool(episodes(hits, counts, window)) == fits(hits, counts, window)


@given(HITS, st.integers(1, 4), st.integers(1, 20))
def test_the_look_at_buckets_misses_nothing(
    hits: list[tuple[int, set[int]]], count: int, window: int
) -> None:
    """Buckets of the window's length include everything that the sliding window finds."""
    buckets: dict[int, int] = {}
    for time, steps in hits:
        if 0 in steps:
            number = time // (window * NANOSECONDS)
            buckets[number] = buckets.get(number, 0) + 1
    if episodes(hits, [count], window):
        assert may_fit(buckets, count)


@given(HITS, st.integers(1, 3), st.integers(1, 20))
def test_episodes_are_apart_and_in_order(hits: list[tuple[int, set[int]]], count: int, window: int) -> None:
    """Episodes do not overlap and come in order of time."""
    found = episodes(hits, [count], window)
    assert all(one.first <= one.last for one in found)
    assert all(before.last < after.first for before, after in pairwise(found))
