"""``mlaudit spool``."""

from __future__ import annotations

from typing import Annotated

import typer

spool_app = typer.Typer(
    help="Look at the durable spool, and empty what was left behind.", no_args_is_help=True
)


@spool_app.command("status")
def spool_status(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """The same as mlaudit status."""
    from mlaudit.health import status

    raise typer.Exit(status.status(status.PATIENCE_SECONDS, as_json=as_json))


@spool_app.command("drain")
def spool_drain(
    seconds: Annotated[float, typer.Option("--seconds", help="How long to go on trying.", min=0)] = 60.0,
) -> None:
    """Send what dead processes left and close their streams with a signature; exit code 1 if some is left."""
    from mlaudit import spool_commands

    raise typer.Exit(spool_commands.drain(seconds))
