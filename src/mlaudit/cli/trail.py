"""What proves a trail: ``mlaudit verify`` and ``keys``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify_command(
    source: Annotated[
        Path | None, typer.Argument(help="Spool folder, archive file, or folder of archive files.")
    ] = None,
    elasticsearch: Annotated[
        str | None,
        typer.Option(
            "--elasticsearch", metavar="URL", help="Cluster; credentials by MLAUDIT_ES_* variables."
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="Leave out what is older, e.g. 2026-11-25T03:30:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Leave out what is as young or younger.")] = "",
    stream: Annotated[str, typer.Option(metavar="ID", help="Look at this stream alone.")] = "",
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Trusted .pub files [default: the state folder's]."),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Do not check signatures; says so loudly.")
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="A signed checkpoint that came by another way; repeatable."
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the data streams; * for all.")] = "*",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", help="CA of the cluster (PEM).", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Wait for records still on their way to the cluster."),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Prove a trail: exit code 0 when all holds, 1 for findings, 2 when it could not look."""
    from mlaudit.verify import commands

    raise typer.Exit(
        commands.verify(
            source,
            elasticsearch=elasticsearch,
            since=since,
            until=until,
            stream=stream,
            keys=keys,
            unsigned=unsigned,
            checkpoints=checkpoint or [],
            namespace=namespace,
            ca_file=ca_file,
            settle=settle,
            as_json=as_json,
        )
    )


keys_app = typer.Typer(help="Keys that sign and verify checkpoints.", no_args_is_help=True)

_KeysFolder = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Folder of the keys [default: the state folder's]."),
]


@keys_app.command("init")
def keys_init(
    name: Annotated[str | None, typer.Option(help="Name of the signing key [default: the host's].")] = None,
    directory: _KeysFolder = None,
) -> None:
    """Make the signing key, its verifier key, and the key of the pseudonyms; overwrites nothing."""
    from mlaudit.verify import commands

    commands.init_keys(directory, name)


@keys_app.command("show")
def keys_show(directory: _KeysFolder = None) -> None:
    """Print the verifier keys, one a line."""
    from mlaudit.verify import commands

    commands.show_keys(directory)
