"""``mlaudit spool``."""

from __future__ import annotations

from typing import Annotated

import typer

from mlaudit.cli import options, output
from mlaudit.cli.command import JsonErrors
from mlaudit.cli.status import PATIENCE_SECONDS, print_status
from mlaudit.safety.printable import safe

spool_app = typer.Typer(
    help="Look at the durable spool, and empty what was left behind.", no_args_is_help=True
)


@spool_app.command("status", cls=JsonErrors)
def spool_status(as_json: options.Json = False) -> None:
    """The same as mlaudit status."""
    print_status(PATIENCE_SECONDS, as_json=as_json)


@spool_app.command("drain", cls=JsonErrors)
def spool_drain(
    seconds: Annotated[float, typer.Option("--seconds", help="How long to go on trying.", min=0)] = 60.0,
    as_json: options.Json = False,
) -> None:
    """Send what dead processes left and close their streams with a signature; exit code 1 if some is left."""
    from mlaudit.pipeline.drain import drain
    from mlaudit.settings import Settings

    console = output.console()
    reasons: list[str] = []

    def not_sent(reason: str) -> None:
        reasons.append(reason)
        if not as_json:
            console.print(f"not sent: {safe(reason)}", markup=False)

    done = drain(Settings.from_env(), seconds, not_sent)
    if as_json:
        output.write_json(
            {"ok": done.ok, "drained": done.drained, "streams": done.streams, "not_sent": reasons}
        )
    else:
        console.print(f"drained {done.drained} of {done.streams} streams whose processes are gone")
    raise typer.Exit(output.FINE if done.ok else output.FINDINGS)
