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
    from rich.console import Console

    from mlaudit.deliver.spool.lock import is_locked
    from mlaudit.deliver.spool.spool import read_spool
    from mlaudit.pipeline.backend import SpoolBackend
    from mlaudit.pipeline.pipeline import record_builder
    from mlaudit.safety.printable import safe
    from mlaudit.settings import Settings

    settings = Settings.from_env()
    left = [folder for folder in read_spool(settings.spool_dir) if not is_locked(folder)]
    backend = SpoolBackend(settings)
    builder = record_builder(settings, backend.policy().digest)
    console = Console(highlight=False)
    drained = backend.adopt(
        builder,
        report=lambda count, reason: console.print(f"not sent: {safe(reason)}", markup=False),
        seconds=seconds,
    )
    console.print(f"drained {drained} of {len(left)} streams whose processes are gone")
    raise typer.Exit(0 if drained >= len(left) else 1)
