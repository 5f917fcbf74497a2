"""Looks at the records of a stretch of time by rules, or at Kibana's alerts, and records the alerts where asked to."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from mlaudit.cluster.client import connect, credentials
from mlaudit.detect.alert_trail import AlertTrail
from mlaudit.detect.events import record_alerts
from mlaudit.detect.kibana import record_new
from mlaudit.detect.run_rules import run_rules
from mlaudit.errors import SourceError
from mlaudit.rfc3339 import with_offset
from mlaudit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mlaudit.detect.compiled_rule import Alert

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Detection:
    """The alerts of one run over the rules, and the time that it looked at."""

    alerts: list[Alert]
    since: datetime
    until: datetime

    def to_json(self) -> dict[str, Any]:
        """The machine-readable answer."""
        return {
            "since": with_offset(self.since, "microseconds"),
            "until": with_offset(self.until, "microseconds"),
            "alerts": [asdict(alert) for alert in self.alerts],
        }


def detect_once(
    url: str, ca_file: Path | None, since: str, rules: Iterable[str], index: str, *, record: bool = False
) -> Detection:
    """Run the rules once.

    With ``record`` each alert becomes an audit record, once, and a run begins no later than the last one ended.

    Raises:
        SourceError: could not check.
        ClusterError: the address or the credentials are not usable.
        SettingsError, SpoolError, PolicyError, KeyFileError: could not record.
    """
    until = datetime.now(UTC)
    start = beginning(since, until)
    wanted = tuple(rules)
    with contextlib.ExitStack() as stack:
        trail = stack.enter_context(_trail("rules")) if record else None
        if trail is not None and trail.position and not wanted:
            start = min(start, datetime.fromisoformat(trail.position))
        client = stack.enter_context(connect(url, credentials(os.environ), ca_file))
        alerts = run_rules(client, start, until, wanted or None, index=index)
        if trail is not None:
            # Some of the rules have not looked at everything up to now.
            record_alerts(trail, alerts, None if wanted else until)
    return Detection(alerts, start, until)


def record_kibana_alerts(
    url: str,
    ca_file: Path | None,
    since: str,
    space: str,
    *,
    recorded: Callable[[int], None],
    failed: Callable[[SourceError], None] | None = None,
    stopped: Callable[[], bool] = lambda: True,
) -> None:
    """Record the alerts of Kibana's detection engine, again and again until stopped.

    Args:
        url: address of the cluster.
        ca_file: CA of its certificate.
        since: where to begin when nothing was recorded yet.
        space: identifier of the Kibana space in which the rules run.
        recorded: called after each look with the number of new alerts.
        failed: called when a look failed, and the next one is taken all the same; without it a failure ends this.
        stopped: waits for the time of the next look; true to end.

    Raises:
        SourceError: could not check.
        ClusterError: the address or the credentials are not usable.
        SettingsError, SpoolError, PolicyError, KeyFileError: could not record.
    """
    if not re.fullmatch(r"[a-z0-9_-]{1,200}", space):
        raise SourceError(f"expected the identifier of a Kibana space, as in its address, found {space!r}")
    start = beginning(since, datetime.now(UTC))
    with (
        _trail(f"kibana-{space}") as trail,
        connect(url, credentials(os.environ), ca_file) as client,
    ):
        while True:
            try:
                count = record_new(client, space, trail, start)
            except SourceError as error:
                if failed is None:
                    raise
                failed(error)
            else:
                recorded(count)
            if stopped():
                return


def beginning(since: str, until: datetime) -> datetime:
    """The time that ``--since`` means: so long before ``until``, or a time with a time zone.

    Raises:
        SourceError: it is neither, or not before ``until``.
    """
    if match := re.fullmatch(r"(\d{1,6})([smhd])", since):
        start = until - timedelta(**{_UNITS[match[2]]: int(match[1])})
    else:
        try:
            start = datetime.fromisoformat(since)
        except ValueError:
            start = until
        if start.tzinfo is None:
            start = until
    if start >= until:
        raise SourceError(
            f"expected --since as a length such as 15m, 2h or 1d, or a past time such as "
            f"2026-11-25T03:30:00Z, found {since!r}"
        )
    return start


def _trail(name: str) -> AlertTrail:
    return AlertTrail(Settings.from_env(), name)
