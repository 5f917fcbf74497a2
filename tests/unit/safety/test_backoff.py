"""Growing pauses."""

from __future__ import annotations

from mlaudit.safety.backoff import Backoff


def test_pauses_grow_up_to_the_limit_and_begin_anew() -> None:
    """Each is longer by the factor; the limit is reached exactly, and a success forgets the failures."""
    backoff = Backoff(0.5, 3.0)
    assert [backoff.pause() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.pause() == 0.5
    assert [Backoff(1, 100, factor=3).pause(), Backoff(200, 100).pause()] == [1, 100]


def test_jitter_changes_the_pause_and_not_its_growth() -> None:
    """What one pause was cut to does not shorten the next."""
    backoff = Backoff(1.0, 8.0, jitter=lambda seconds: seconds / 2)
    assert [backoff.pause() for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]


def test_a_deferred_try_is_due_when_its_pause_is_over() -> None:
    """By a clock that nobody can set; a reset makes it due at once."""
    now = 100.0
    backoff = Backoff(2.0, 60.0, clock=lambda: now)
    assert backoff.is_due
    backoff.defer()
    now = 101.9
    assert not backoff.is_due
    now = 102.0
    assert backoff.is_due
    backoff.defer()
    now = 105.9
    assert not backoff.is_due
    backoff.reset()
    assert backoff.is_due


def test_pauses_never_overflow() -> None:
    """A receiver that is unreachable for years costs no exception."""
    backoff = Backoff(0.4, 30.0)
    assert {backoff.pause() for _ in range(5000)} >= {30.0}
    assert backoff.pause() == 30.0
