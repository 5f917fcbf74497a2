"""What happens again and again is told once in a while, with a count."""

from __future__ import annotations

from mlaudit.capture.rate_limit import MAX_KEPT, Budget, Repeats


def test_told_once_in_a_window_then_with_the_count() -> None:
    """Within the window its like are counted; the next one after it tells how many."""
    now = [0.0]
    repeats: Repeats[str] = Repeats(60.0, lambda: now[0])
    assert [repeats.due("a"), repeats.due("a"), repeats.due("b"), repeats.due("a")] == [0, None, 0, None]
    now[0] = 60.0
    assert [repeats.due("a"), repeats.due("a"), repeats.due("b")] == [2, None, 0]


def test_rest_is_what_was_not_told() -> None:
    """At the end the counts that nobody was told are left, once."""
    repeats: Repeats[str] = Repeats()
    for key in "aab":
        repeats.due(key)
    assert repeats.rest() == {"a": 1}
    assert repeats.rest() == {}
    assert repeats.due("a") == 0


def test_memory_is_bounded() -> None:
    """The oldest key goes when there are too many."""
    repeats: Repeats[int] = Repeats()
    for key in range(MAX_KEPT + 1):
        repeats.due(key)
    assert repeats.due(0) == 0
    assert repeats.due(MAX_KEPT) is None


def test_budget_is_of_one_origin_and_one_window() -> None:
    """The last one within the budget is known as such; a window later there is a new one."""
    now = [0.0]
    budget: Budget[int] = Budget(2, 60.0, lambda: now[0])
    assert [budget.left(1), budget.left(1), budget.left(1), budget.left(2)] == [1, 0, -1, 1]
    now[0] = 60.0
    assert budget.left(1) == 1
    for key in range(2 * MAX_KEPT):
        budget.left(key)
    assert len(budget._spent) <= MAX_KEPT
