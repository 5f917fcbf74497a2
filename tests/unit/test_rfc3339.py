"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlaudit import rfc3339
from mlaudit.errors import SourceError
from mlaudit.verify.sources.source import parse_moment

MOMENT = datetime(2026, 11, 25, 3, 30, 0, 123456, UTC)
EAST = timezone(timedelta(hours=5, minutes=45))


def test_each_form_of_a_time() -> None:
    """Records have nine digits, time-stamps as many as they need, status files three and an offset."""
    assert rfc3339.from_nanoseconds(1_795_577_400_123_456_789) == "2026-11-25T03:30:00.123456789Z"
    assert rfc3339.from_datetime(MOMENT) == "2026-11-25T03:30:00.123456000Z"
    assert rfc3339.shortest(MOMENT) == "2026-11-25T03:30:00.123456Z"
    assert rfc3339.shortest(MOMENT.replace(microsecond=0)) == "2026-11-25T03:30:00Z"
    assert rfc3339.with_offset(MOMENT) == "2026-11-25T03:30:00.123+00:00"
    assert rfc3339.with_offset(MOMENT, "microseconds") == "2026-11-25T03:30:00.123456+00:00"


@pytest.mark.parametrize("write", [rfc3339.from_datetime, rfc3339.shortest, rfc3339.with_offset])
def test_every_form_is_in_utc_and_refuses_a_time_without_a_zone(write) -> None:
    """The same moment is the same text wherever it was measured."""
    assert write(MOMENT.astimezone(EAST)) == write(MOMENT)
    with pytest.raises(ValueError, match="time zone"):
        write(MOMENT.replace(tzinfo=None))


def test_times_sort_as_text() -> None:
    """A fraction of zeros and an early year are as long as any other."""
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(987, 1, 1, tzinfo=UTC), MOMENT.replace(microsecond=0)]
    moments += [MOMENT, datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)]
    for write in (rfc3339.from_datetime, rfc3339.with_offset):
        texts = [write(moment) for moment in moments]
        assert texts == sorted(texts)
        assert len({len(text) for text in texts}) == 1


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_beyond_the_calendar_is_refused(text: str) -> None:
    """A time that UTC cannot write is said to be none."""
    with pytest.raises(SourceError, match="expected a date or time"):
        parse_moment(text)
