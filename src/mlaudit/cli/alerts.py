"""``mlaudit alerts``."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from mlaudit.cli import options, output
from mlaudit.safety.printable import safe


def alerts_command(
    elasticsearch: options.ElasticsearchRequired,
    once: options.Once = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again and again, until interrupted.")
    ] = False,
    space: Annotated[str, typer.Option("--space", help="Kibana space in which the rules run.")] = "default",
    since: Annotated[
        str, typer.Option("--since", help="Where to begin when nothing was recorded yet: 2h, 1d, or a time.")
    ] = "1d",
    every: Annotated[
        float, typer.Option("--every", help="Seconds between two looks.", metavar="SECONDS", min=0.1)
    ] = 30.0,
    ca_file: options.CaFile = None,
    as_json: options.Json = False,
) -> None:
    """Write the alerts of Kibana's detection engine into the audit trail; exit code 2 if it could not.

    Credentials come from the same variables as those of mlaudit install; the user needs the role mlaudit_alerts.
    """
    from mlaudit.detect.look import record_kibana_alerts
    from mlaudit.errors import SourceError

    if once == follow:
        raise SourceError("expected either --once (let a timer repeat it) or --follow")
    console = output.console()

    def recorded(count: int) -> None:
        if as_json and follow:
            output.write_json_line({"space": space, "recorded": count})
        elif as_json:
            output.write_json({"space": space, "recorded": count})
        else:
            plural = "" if count == 1 else "s"
            console.print(f"{count} new alert{plural} of space {space} recorded")

    if not follow:
        record_kibana_alerts(elasticsearch, ca_file, since, space, recorded=recorded)
        return
    # A program that reads JSON lines gets nothing else.
    remarks = output.progress() if as_json else console
    stopped = _stop_signal()
    record_kibana_alerts(
        elasticsearch,
        ca_file,
        since,
        space,
        recorded=lambda count: recorded(count) if count else None,
        failed=lambda error: remarks.print(f"could not check: {safe(str(error))}", markup=False),
        stopped=lambda: stopped.wait(every),
    )


def _stop_signal() -> threading.Event:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
