"""The one writer of times: RFC 3339 in UTC, each form always as long, so that times sort as text."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Literal


def from_nanoseconds(nanoseconds: int) -> str:
    """The form of records, of nanoseconds since the epoch: ``2026-11-25T03:30:00.123456789Z``."""
    global _last_second
    second, rest = divmod(nanoseconds, 1_000_000_000)
    # Most records share their second with the one before. One tuple, so that no thread sees half of a change.
    cached, text = _last_second
    if second != cached:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _last_second = (second, text)
    return f"{text}.{rest:09d}Z"


_last_second = (-1, "")


def from_datetime(moment: datetime) -> str:
    """The form of records: ``2026-11-25T03:30:00.123456000Z``.

    Raises:
        ValueError: the time has no time zone, and would mean another time on another machine.
    """
    return f"{_utc(moment).isoformat(timespec='microseconds').removesuffix('+00:00')}000Z"


def shortest(moment: datetime) -> str:
    """The form of time-stamps: ``2026-11-25T03:30:00Z``, with a fraction only where there is one.

    Raises:
        ValueError: the time has no time zone.
    """
    return f"{_utc(moment).isoformat().removesuffix('+00:00')}Z"


def with_offset(moment: datetime, digits: Literal["milliseconds", "microseconds"] = "milliseconds") -> str:
    """The form of status files and of what detection remembers: ``2026-11-25T03:30:00.123+00:00``.

    Raises:
        ValueError: the time has no time zone.
    """
    return _utc(moment).isoformat(timespec=digits)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a time zone, found {moment!r}")
    return moment.astimezone(UTC)
