"""``mlaudit lineage``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def lineage_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A model, MODEL:VERSION, MODEL:DIGEST (its first 8 digits or more) or MODEL@ALIAS.",
            metavar="MODEL[:VERSION]",
        ),
    ],
    elasticsearch: Annotated[
        str | None,
        typer.Option(
            "--elasticsearch",
            metavar="URL",
            help="Cluster; credentials by MLAUDIT_ES_* variables.",
            envvar="MLAUDIT_ES_URL",
        ),
    ] = None,
    form: Annotated[Literal["text", "json", "svg"], typer.Option("--format", help="What to print.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write into this file instead.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the data streams; * for all.")] = "*",
    since: Annotated[
        str, typer.Option(help="Leave out older loads and predictions, e.g. 2026-11-25T03:30:00Z.")
    ] = "",
    until: Annotated[
        str, typer.Option(help="Leave out loads and predictions that are as young or younger.")
    ] = "",
    complete: Annotated[
        bool, typer.Option("--complete", help="Exit code 1 when the chain has a gap, too.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Prove the streams that the records belong to, as mlaudit verify."),
    ] = False,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", metavar="DIR", help="With --verify: trusted .pub files (default: the state folder's)."
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", help="CA of the cluster (PEM).", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
) -> None:
    """Tell where a model comes from and what it was used for: data, run, metrics, approval, artifact, deployment, uses.

    Of a model without a version: the one that was deployed or promoted last. Exit code 0 when it is told, 1 when a
    record is not as it was sealed (or --verify or --complete find something), 2 when it could not check.
    """
    from mlaudit.lineage import commands

    raise typer.Exit(
        commands.lineage(
            model,
            elasticsearch=elasticsearch,
            form=form,
            output=output,
            namespace=namespace,
            ca_file=ca_file,
            since=since,
            until=until,
            complete=complete,
            verify=verify,
            keys=keys,
        )
    )
