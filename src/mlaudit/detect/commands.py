"""What ``mlaudit detect`` prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlaudit.cluster.client import connect, credentials
from mlaudit.detect.alert_trail import AlertTrail
from mlaudit.detect.events import record_alerts
from mlaudit.detect.kibana import record_new
from mlaudit.detect.run_rules import run_rules
from mlaudit.errors import SourceError
from mlaudit.rfc3339 import with_offset
from mlaudit.safety.printable import safe
from mlaudit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlaudit.detect.compiled_rule import Alert

FOUND: Final = 1

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_COLOURS: Final = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}


def once(
    url: str,
    ca_file: Path | None,
    since: str,
    rules: Iterable[str],
    index: str,
    *,
    as_json: bool,
    record: bool = False,
) -> int:
    """Run the rules once and print the alerts; returns the exit code, 0 for none and 1 for some.

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
    console = Console(soft_wrap=as_json)
    if as_json:
        console.print_json(json.dumps(answer(alerts, start, until)), ensure_ascii=False)
    else:
        show(alerts, start, until, console)
    return FOUND if alerts else 0


def kibana(
    url: str, ca_file: Path | None, since: str, space: str, every: float, *, follow: bool, as_json: bool
) -> int:
    """Record the alerts of Kibana's detection engine, once or until interrupted; returns the exit code, 0.

    While it follows, a cluster that cannot be looked at is said and looked at again.

    Raises:
        SourceError: could not check.
        ClusterError: the address or the credentials are not usable.
        SettingsError, SpoolError, PolicyError, KeyFileError: could not record.
    """
    if not re.fullmatch(r"[a-z0-9_-]{1,200}", space):
        raise SourceError(f"expected the identifier of a Kibana space, as in its address, found {space!r}")
    start = beginning(since, datetime.now(UTC))
    console = Console(soft_wrap=True)
    stopped = _stop_signal() if follow else None
    with (
        _trail(f"kibana-{space}") as trail,
        connect(url, credentials(os.environ), ca_file) as client,
    ):
        while True:
            try:
                recorded = record_new(client, space, trail, start)
            except SourceError as error:
                if stopped is None:
                    raise
                console.print(f"could not check: {safe(str(error))}", markup=False)
            else:
                if recorded or stopped is None:
                    _say(console, recorded, space, as_json=as_json)
            if stopped is None or stopped.wait(every):
                return 0


def _say(console: Console, recorded: int, space: str, *, as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps({"space": space, "recorded": recorded}))
    else:
        plural = "" if recorded == 1 else "s"
        console.print(f"{recorded} new alert{plural} of space {space} recorded")


def _trail(name: str) -> AlertTrail:
    return AlertTrail(Settings.from_env(), name)


def _stop_signal() -> threading.Event:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


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


def answer(alerts: Iterable[Alert], since: datetime, until: datetime) -> dict[str, Any]:
    """The machine-readable answer."""
    return {
        "since": with_offset(since, "microseconds"),
        "until": with_offset(until, "microseconds"),
        "alerts": [asdict(alert) for alert in alerts],
    }


def show(alerts: list[Alert], since: datetime, until: datetime, console: Console) -> None:
    """Print the alerts for people."""
    span = f"from {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC"
    if not alerts:
        console.print(f"[green]no alert[/] in what arrived {span}")
        return
    for alert in alerts:
        colour = _COLOURS.get(alert.level, "default")
        console.print(f"[{colour}]{alert.level}[/]  [bold]{escape(safe(alert.title))}[/]  {alert.rule}")
        table = Table.grid(padding=(0, 2), pad_edge=True)
        plural = "" if alert.count == 1 else "s"
        table.add_row(
            "", f"{alert.count} record{plural}", f"{_short(alert.first)} to {_short(alert.last)} UTC"
        )
        for name, values in named(alert).items():
            table.add_row("", name, escape(safe(", ".join(values))))
        console.print(table)
    plural = "" if len(alerts) == 1 else "s"
    console.print(f"{len(alerts)} alert{plural} in what arrived {span}")


def named(alert: Alert) -> dict[str, list[str]]:
    """What the records of an alert share, then the other entities in them."""
    shared = {name: [value] for name, value in alert.group.items()}
    return shared | {name: values for name, values in alert.entities.items() if name not in shared}


def _short(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")
