"""Sequences within a sliding window."""

from __future__ import annotations

import pytest

from mlaudit.detect.window import NANOSECONDS, Episode, episodes, may_fit


def hits(*times: float, step: int = 0) -> list[tuple[int, set[int]]]:
    """Hits of one step at these seconds."""
    return [(int(time * NANOSECONDS), {step}) for time in times]


def found(sequence: list[tuple[int, set[int]]], counts: list[int], window: int) -> list[tuple[float, float]]:
    """First and last second of every episode."""
    ordered = sorted(sequence, key=lambda hit: hit[0])
    return [(one.first / NANOSECONDS, one.last / NANOSECONDS) for one in episodes(ordered, counts, window)]


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ((0, 1, 2), [(0, 2)]),
        ((0, 1, 10), [(0, 10)]),
        ((0, 1, 10.000000001), []),
        ((0, 1), []),
        ((5, 9, 12), [(5, 12)]),
        ((0, 1, 2, 3, 4), [(0, 4)]),
        ((0, 1, 2, 100, 101, 102), [(0, 2), (100, 102)]),
        ((0, 8, 9, 17, 18), [(0, 18)]),
    ],
)
def test_a_count_is_found_wherever_its_window_begins(
    times: tuple[float, ...], wanted: list[tuple[int, int]]
) -> None:
    """Three hits within ten seconds are one episode, both ends included; overlapping windows are merged."""
    assert found(hits(*times), [3], 10) == wanted


def test_a_step_counts_only_after_the_step_before_it() -> None:
    """The success must follow the failures, and the whole must fit in the window."""
    failures = hits(1, 2, 3)
    assert found(failures + hits(4, step=1), [3, 1], 10) == [(1, 4)]
    assert found(failures + hits(0.5, step=1), [3, 1], 10) == []
    assert found(failures + hits(2.5, step=1), [3, 1], 10) == []
    assert found(failures + hits(11, step=1), [3, 1], 10) == [(1, 11)]
    assert found(failures + hits(11.5, step=1), [3, 1], 10) == []


def test_the_latest_failures_are_those_that_count() -> None:
    """Early failures that have left the window do not hide later ones that are in it."""
    assert found(hits(0, 50, 51, 52) + hits(53, step=1), [3, 1], 10) == [(50, 53)]


def test_one_record_does_not_serve_two_steps() -> None:
    """A record that matches both steps cannot be failure and success of one sequence."""
    both = [(NANOSECONDS, {0, 1})]
    assert found(both, [1, 1], 10) == []
    assert found([*both, (2 * NANOSECONDS, {0, 1})], [1, 1], 10) == [(1, 2)]


def test_later_steps_may_need_several_hits() -> None:
    """A step after the first can have a count of its own."""
    assert found(hits(1, 2) + hits(3, 4, step=1), [2, 2], 10) == [(1, 4)]
    assert found(hits(1, 2) + hits(3, step=1), [2, 2], 10) == []
    assert found(hits(1) + hits(2, step=1) + hits(3) + hits(4, step=1), [2, 2], 10) == []


def test_three_steps_in_order() -> None:
    """A sequence may have more than two steps."""
    assert found(hits(1) + hits(2, step=1) + hits(3, step=2), [1, 1, 1], 10) == [(1, 3)]
    assert found(hits(1) + hits(3, step=1) + hits(2, step=2), [1, 1, 1], 10) == []


def test_nothing_is_found_in_nothing() -> None:
    """No hits, no episodes."""
    assert episodes([], [1], 10) == []
    assert episodes(hits(1), [1], 10) == [Episode(NANOSECONDS, NANOSECONDS)]


def test_two_neighbouring_buckets_may_hold_one_window() -> None:
    """The bucket prefilter keeps a burst across a boundary and drops hits that are too far apart."""
    assert may_fit({7: 3}, 3)
    assert may_fit({7: 1, 8: 2}, 3)
    assert not may_fit({7: 1, 9: 2}, 3)
    assert not may_fit({}, 1)
