"""``mlaudit spool``."""

from __future__ import annotations

from typing import Annotated

import typer

spool_app = typer.Typer(
    help="Look at the durable spool, and empty what was left behind.", no_args_is_help=True
)


@spool_app.command("status")
def spool_status() -> None:
    """Show every stream of the spool; exit code 1 if records wait to be sent. MLAUDIT_SPOOL_DIR names it."""
    from mlaudit import spool_commands

    raise typer.Exit(spool_commands.status())


@spool_app.command("drain")
def spool_drain(
    seconds: Annotated[float, typer.Option("--seconds", help="How long to go on trying.", min=0)] = 60.0,
) -> None:
    """Send what dead processes left and close their streams with a signature; exit code 1 if some is left."""
    from mlaudit import spool_commands

    raise typer.Exit(spool_commands.drain(seconds))
