"""``mlaudit detect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from mlaudit.cli import options, output
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

    from mlaudit.detect.compiled_rule import Alert

_COLOURS: Final = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}


def detect_command(
    elasticsearch: options.ElasticsearchRequired,
    once: options.Once = False,
    since: Annotated[
        str,
        typer.Option("--since", help="Look at records that arrived since then: 15m, 2h, 1d, or a time."),
    ] = "15m",
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", help="Name or id of a rule; may be given again. All if absent."),
    ] = None,
    index: Annotated[
        str, typer.Option("--index", help="Pattern of the data streams to look into.")
    ] = "logs-mlaudit.*",
    ca_file: options.CaFile = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Also write each alert into the audit trail, once; looks since the last such run.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Run the detection rules; exit code 0 if nothing is found, 1 for alerts, 2 if it could not check.

    Credentials come from the same variables as those of mlaudit install.
    """
    from mlaudit.detect.look import detect_once
    from mlaudit.errors import SourceError

    if not once:
        raise SourceError("expected --once: detect looks once and returns; let a timer repeat it")
    found = detect_once(elasticsearch, ca_file, since, rule or (), index, record=record)
    if as_json:
        output.write_json(found.to_json())
    else:
        show(found.alerts, found.since, found.until, output.console())
    raise typer.Exit(output.FINDINGS if found.alerts else output.FINE)


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
        for column in table.columns:
            column.no_wrap = True
        output.print_table(console, table)
    plural = "" if len(alerts) == 1 else "s"
    console.print(f"{len(alerts)} alert{plural} in what arrived {span}")


def named(alert: Alert) -> dict[str, list[str]]:
    """What the records of an alert share, then the other entities in them."""
    shared = {name: [value] for name, value in alert.group.items()}
    return shared | {name: values for name, values in alert.entities.items() if name not in shared}


def _short(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")
