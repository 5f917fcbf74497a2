"""``mlaudit stack``: the local Elasticsearch and collector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

stack_app = typer.Typer(help="Local Elasticsearch and collector, without Docker.", no_args_is_help=True)

_StackDirectory = Annotated[
    Path, typer.Option("--dir", help="Folder for state, credentials, logs and data.", metavar="DIR")
]
_OtlpTls = Literal["off", "server", "mutual"]
_Topology = Literal["queued", "direct"]


@stack_app.command("up")
def stack_up(
    directory: _StackDirectory = Path(".mlaudit-stack"),
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", help="Return when it is ready, or stay until Ctrl-C.")
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run stored.")] = False,
    tls: Annotated[bool, typer.Option("--tls/--no-tls", help="HTTPS for Elasticsearch.")] = True,
    otlp_tls: Annotated[
        _OtlpTls, typer.Option(help="The collector speaks HTTPS; mutual: it asks senders for a certificate.")
    ] = "off",
    topology: Annotated[
        _Topology, typer.Option(help="Acknowledged when on the collector's disk, or when stored.")
    ] = "queued",
    archive: Annotated[
        Path | None, typer.Option("--archive", help="File that gets every audit record as well.")
    ] = None,
    host: Annotated[
        bool, typer.Option("--host", help="Also record what happens to this host (system.yaml).")
    ] = False,
) -> None:
    """Start Elasticsearch and the collector; fetches and builds them on the first run."""
    from mlaudit.stack import commands

    commands.up(
        directory,
        detach=detach,
        fresh=fresh,
        tls=tls,
        archive=archive,
        otlp_tls=otlp_tls,
        topology=topology,
        host=host,
    )


@stack_app.command("down")
def stack_down(directory: _StackDirectory = Path(".mlaudit-stack")) -> None:
    """Stop both; the data stays."""
    from mlaudit.stack import commands

    commands.down(directory)


@stack_app.command("status")
def stack_status(
    directory: _StackDirectory = Path(".mlaudit-stack"),
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show what runs and where; exit code 1 if anything of it does not."""
    from mlaudit.stack import commands

    raise typer.Exit(commands.status(directory, as_json=as_json))


@stack_app.command("env")
def stack_env(directory: _StackDirectory = Path(".mlaudit-stack")) -> None:
    """Print the variables that point services and mlaudit's commands to the running stack: eval "$(…)"."""
    from mlaudit.stack import commands

    commands.env(directory)
