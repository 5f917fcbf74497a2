"""``mlaudit status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from mlaudit.cli import options, output
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.health.status import SpoolStatus
    from mlaudit.health.streams import StreamStatus

#: Records that wait longer need attention: a restart of the collector is over by then.
PATIENCE_SECONDS: Final = 60.0


def status_command(
    as_json: options.Json = False,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long a record may wait before that is said.")
    ] = PATIENCE_SECONDS,
) -> None:
    """Show every audit stream of this host; exit code 0 if fine, 1 if attention is needed, 2 if it cannot look.

    Looks into the spool of MLAUDIT_SPOOL_DIR, or of MLAUDIT_STATE_DIR.
    """
    print_status(patience, as_json=as_json)


def print_status(patience: float, *, as_json: bool) -> None:
    """Prints the streams and ends the command."""
    from mlaudit.health.status import read_status
    from mlaudit.settings import Settings

    with output.could_not_check("status", as_json=as_json, answer={"streams": []}):
        seen = read_status(Settings.from_env().spool_dir, patience)
    if as_json:
        output.write_json(seen.to_dict())
    else:
        show(seen, output.console())
    raise typer.Exit(output.FINE if seen.ok else output.FINDINGS)


def show(seen: SpoolStatus, console: Console) -> None:
    """Prints a status for a person; content of files is escaped."""
    from mlaudit.health.status import age, size
    from mlaudit.health.streams import ALIVE

    table = Table(
        title=Text(safe(seen.spool)), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for name in (
        "service",
        "pid",
        "state",
        "sealed",
        "sent",
        "waiting",
        "bytes",
        "oldest",
        "signed to",
        "key",
        "kept",
    ):
        table.add_column(
            name,
            justify="right" if name not in ("service", "state", "key") else "left",
            no_wrap=name in ("service", "pid", "key"),
        )
    for one in seen.streams:
        table.add_row(
            Text(safe(one.service or "?")),
            str(one.pid or "?"),
            Text(one.state, style="green" if one.state == ALIVE else "yellow"),
            f"{one.sealed:,}",
            f"{one.sent:,}",
            f"{one.waiting:,}",
            size(one.waiting_bytes),
            age(one.oldest_age) if one.waiting else "",
            f"{one.signed_sequence:,}",
            Text(safe(one.key_id)),
            size(one.retained_bytes) if one.retained_bytes else "",
        )
    if seen.streams:
        output.print_table(console, table)
    else:
        console.print(Text(f"{safe(seen.spool)}: no streams; everything was sent"))
    for one in seen.streams:
        _describe(one, console)
    if seen.retained_bytes:
        console.print(
            f"{size(seen.retained_bytes)} of acknowledged records are kept for mlaudit resend", style="dim"
        )
    for sentence in seen.attention:
        console.print(Text.assemble(("attention  ", "bold red"), safe(sentence)))
    console.print("[green]fine[/]" if seen.ok else "[bold red]needs attention[/]")


def _describe(one: StreamStatus, console: Console) -> None:
    facts = [f"stream {one.stream}"]
    facts += [f"since {one.started}"] if one.started else []
    facts += [f"last acknowledged {one.last_acknowledged}"] if one.last_acknowledged else []
    facts += [f"adopted by {one.adopted_by}"] if one.adopted_by else []
    facts += [] if one.described else ["its status file is absent or unreadable"]
    console.print(Text(safe(", ".join(facts)), style="dim"), soft_wrap=True)
    for sentence in one.attention:
        console.print(
            Text.assemble(("  attention  ", "bold red"), output.cut(safe(sentence))), soft_wrap=True
        )
