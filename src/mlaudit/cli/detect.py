"""``mlaudit detect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def detect(
    elasticsearch: Annotated[
        str, typer.Option("--elasticsearch", help="Address of the cluster.", metavar="URL")
    ],
    once: Annotated[bool, typer.Option("--once", help="Look once and return; repeat it by a timer.")] = False,
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
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", help="CA certificate of the cluster.", metavar="FILE", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Run the detection rules; exit code 0 if nothing is found, 1 for alerts, 2 if it could not look.

    Credentials come from the same variables as those of mlaudit install.
    """
    from mlaudit.detect import commands
    from mlaudit.errors import SourceError

    if not once:
        raise SourceError("expected --once: detect looks once and returns; let a timer repeat it")
    raise typer.Exit(commands.once(elasticsearch, ca_file, since, rule or (), index, as_json=as_json))
