"""Change control: the declared windows in which production may be changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def zone(name: str) -> tzinfo:
    """The IANA time zone of this name; raises an error of zoneinfo when it does not exist.

    UTC needs no time zone database, which slim containers often lack.
    """
    return UTC if name.upper() == "UTC" else ZoneInfo(name)


def minutes(text: str) -> int:
    """``HH:MM`` as minutes since midnight; ``24:00`` is the end of the day."""
    hours, _, rest = text.partition(":")
    if len(hours) != 2 or len(rest) != 2 or not (hours + rest).isascii() or not (hours + rest).isdigit():
        raise ValueError(text)
    value = int(hours) * 60 + int(rest)
    if int(rest) > 59 or value > _DAY_MINUTES:
        raise ValueError(text)
    return value


@dataclass(frozen=True, slots=True)
class Window:
    """A weekly window on the wall clock of its zone: ``start`` is inside, ``end`` is outside.

    ``days`` are the days on which the window starts (0 = Monday). A window whose end is not after its start runs
    over midnight into the next day; equal ones last 24 hours.
    """

    days: frozenset[int]
    start: int
    end: int
    timezone: tzinfo

    def contains(self, moment: datetime) -> bool:
        """Whether an aware point in time lies inside."""
        local = moment.astimezone(self.timezone)
        clock = local.hour * 60 + local.minute
        today = local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= clock < self.end
        yesterday = (today - 1) % 7
        return (today in self.days and clock >= self.start) or (yesterday in self.days and clock < self.end)


@dataclass(frozen=True, slots=True)
class ChangeControl:
    """Where a change names its ticket and approver, and when changes may happen."""

    ticket_header: str
    approver_header: str
    windows: tuple[Window, ...] = ()

    def in_window(self, ts_ns: int) -> bool:
        """Whether a time (nanoseconds since the epoch, UTC) lies in a declared window.

        True when no window is declared. A time outside the range of ``datetime`` lies in no window.
        """
        if not self.windows:
            return True
        try:
            moment = _EPOCH + timedelta(microseconds=ts_ns // 1000)
            return any(window.contains(moment) for window in self.windows)
        except (OverflowError, ValueError):
            return False


def make_window(days: Iterable[str], start: str, end: str, timezone: str) -> Window:
    """A window from the policy's texts, which the policy loader has already validated."""
    return Window(
        days=frozenset(DAYS.index(day) for day in days),
        start=minutes(start),
        end=minutes(end),
        timezone=zone(timezone),
    )
