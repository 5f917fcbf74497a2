"""Change windows."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from mlaudit.policy.change import DAYS, ChangeControl, Window, make_window, minutes
from mlaudit.policy.values import Weekday


def control(*windows: Window) -> ChangeControl:
    """Change control with these windows."""
    return ChangeControl("x-ticket", "x-approver", windows)


def ns(text: str, timezone: str = "UTC") -> int:
    """A wall-clock time as nanoseconds since the epoch."""
    return (
        int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC).timestamp())
        * 10**9
    )


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("2026-11-25T07:59:59", False),  # a Wednesday
        ("2026-11-25T08:00", True),
        ("2026-11-25T16:59:59", True),
        ("2026-11-25T17:00", False),
        ("2026-11-26T10:00", False),
    ],
)
def test_a_window_includes_its_start_and_not_its_end(text: str, inside: bool) -> None:
    """On the given days only."""
    assert control(make_window(["wed"], "08:00", "17:00", "UTC")).in_window(ns(text)) is inside


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("2026-11-27T21:59", False),  # Friday
        ("2026-11-27T22:00", True),
        ("2026-11-28T03:59", True),  # Saturday morning belongs to Friday's window
        ("2026-11-28T04:00", False),
        ("2026-11-28T23:00", False),
        ("2026-11-27T03:00", False),  # Thursday has no window
    ],
)
def test_a_window_over_midnight_ends_on_the_next_day(text: str, inside: bool) -> None:
    """Its day is the one on which it starts."""
    assert control(make_window(["fri"], "22:00", "04:00", "UTC")).in_window(ns(text)) is inside


def test_a_window_over_midnight_on_sunday_reaches_into_monday() -> None:
    """The week wraps around."""
    assert control(make_window(["sun"], "23:00", "01:00", "UTC")).in_window(ns("2026-11-30T00:30"))


def test_equal_times_last_a_day_and_24_00_is_the_end_of_one() -> None:
    """From noon to noon is 24 hours; to 24:00 is to midnight."""
    day = control(make_window(["wed"], "12:00", "12:00", "UTC"))
    assert day.in_window(ns("2026-11-26T11:59"))
    assert not day.in_window(ns("2026-11-26T12:00"))
    evening = control(make_window(["wed"], "18:00", "24:00", "UTC"))
    assert evening.in_window(ns("2026-11-25T23:59"))
    assert not evening.in_window(ns("2026-11-26T00:00"))


def test_the_clock_is_that_of_the_windows_zone_in_summer_and_winter() -> None:
    """Nine in Berlin is seven UTC in July and eight UTC in January."""
    window = control(make_window(DAYS, "09:00", "09:01", "Europe/Berlin"))
    assert window.in_window(ns("2026-07-01T07:00"))
    assert window.in_window(ns("2026-01-07T08:00"))
    assert not window.in_window(ns("2026-01-07T07:00"))


def test_without_windows_every_time_is_inside() -> None:
    """Without declared windows no time is outside."""
    assert control().in_window(0)


def test_a_time_beyond_the_calendar_is_outside() -> None:
    """A time outside the calendar's range does not raise and is not inside."""
    assert not control(make_window(DAYS, "00:00", "24:00", "UTC")).in_window(10**30)


@pytest.mark.parametrize("text", ["24:01", "8:00", "08:60", "0800", "", "aa:bb", "\u0661\u0662:\u0660\u0660"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    """HH:MM with two ASCII digits each, up to 24:00."""
    with pytest.raises(ValueError):
        minutes(text)


def test_the_file_format_knows_the_same_days() -> None:
    """The days of the policy file are the days that windows accept."""
    assert Weekday.__args__ == DAYS  # type: ignore[attr-defined]
