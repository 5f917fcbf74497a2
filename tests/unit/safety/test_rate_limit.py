"""What happens again and again is told once in a while, with a count."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

from mlaudit.safety.rate_limit import MAX_KEPT, RateLimit


def test_told_once_in_a_window_then_with_the_count() -> None:
    """Within the window its like are counted; the next one after it tells how many."""
    now = [0.0]
    repeats: RateLimit[str] = RateLimit(1, 60.0, clock=lambda: now[0])
    assert [repeats.due("a"), repeats.due("a"), repeats.due("b"), repeats.due("a")] == [0, None, 0, None]
    now[0] = 60.0
    assert [repeats.due("a"), repeats.due("a"), repeats.due("b")] == [2, None, 0]


def test_rest_is_what_was_not_told() -> None:
    """At the end the counts that nobody was told are left, once."""
    repeats: RateLimit[str] = RateLimit()
    for key in "aab":
        repeats.due(key)
    assert repeats.rest() == {"a": 1}
    assert repeats.rest() == {}
    assert repeats.due("a") == 0


def test_memory_is_bounded() -> None:
    """The oldest key goes when there are too many."""
    repeats: RateLimit[int] = RateLimit()
    for key in range(MAX_KEPT + 1):
        repeats.due(key)
    assert repeats.due(0) == 0
    assert repeats.due(MAX_KEPT) is None


def test_budget_is_of_one_origin_and_one_window() -> None:
    """The last one within the budget is known as such; a window later there is a new one."""
    now = [0.0]
    budget: RateLimit[int] = RateLimit(2, 60.0, clock=lambda: now[0])
    assert [budget.left(1), budget.left(1), budget.left(1), budget.left(2)] == [1, 0, -1, 1]
    now[0] = 60.0
    assert budget.left(1) == 1
    for key in range(2 * MAX_KEPT):
        budget.left(key)
    assert len(budget) <= MAX_KEPT


def test_allowing_is_counting() -> None:
    """A key that is asked about all the time is still let through once in a window."""
    now = [0.0]
    limit: RateLimit[str] = RateLimit(1, 10.0, clock=lambda: now[0])
    allowed = []
    for second in range(25):
        now[0] = float(second)
        allowed.append(limit.allow("a"))
    assert [second for second, one in enumerate(allowed) if one] == [0, 10, 20]


def test_what_a_larger_limit_held_back_is_told_by_the_next_one() -> None:
    """The first of the next window says how many the last one held back, and only that one."""
    now = [0.0]
    limit: RateLimit[str] = RateLimit(2, 60.0, clock=lambda: now[0])
    assert [limit.due("a") for _ in range(5)] == [0, 0, None, None, None]
    now[0] = 60.0
    assert [limit.due("a") for _ in range(3)] == [3, 0, None]
    assert limit.rest() == {"a": 1}


def test_a_window_without_an_end() -> None:
    """A limit for as long as the key is remembered."""
    limit: RateLimit[str] = RateLimit(1, math.inf, kept=2)
    assert [limit.allow(key) for key in "aab"] == [True, False, True]
    assert [limit.allow(key) for key in "acab"] == [False, True, False, True]


def test_threads_at_once_lose_no_key_and_raise_nothing() -> None:
    """Without a lock two threads may miscount by one, but the memory stays bounded and whole."""
    limit: RateLimit[int] = RateLimit(kept=8)

    def work(start: int) -> None:
        for number in range(20_000):
            limit.due((start + number) % 16)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, start) for start in range(4)]:
            done.result()
    assert len(limit) <= 8 + 4
