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
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Also write each alert into the audit trail, once; looks since the last such run.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Run the detection rules; exit code 0 if nothing is found, 1 for alerts, 2 if it could not check.

    Credentials come from the same variables as those of mlaudit install.
    """
    from mlaudit.detect import commands
    from mlaudit.errors import SourceError

    if not once:
        raise SourceError("expected --once: detect looks once and returns; let a timer repeat it")
    raise typer.Exit(
        commands.once(elasticsearch, ca_file, since, rule or (), index, as_json=as_json, record=record)
    )


def alerts(
    elasticsearch: Annotated[
        str, typer.Option("--elasticsearch", help="Address of the cluster.", metavar="URL")
    ],
    once: Annotated[bool, typer.Option("--once", help="Look once and return; repeat it by a timer.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again and again, until interrupted.")
    ] = False,
    space: Annotated[str, typer.Option("--space", help="Kibana space in which the rules run.")] = "default",
    since: Annotated[
        str, typer.Option("--since", help="Where to begin when nothing was recorded yet: 2h, 1d, or a time.")
    ] = "1d",
    every: Annotated[
        float, typer.Option("--every", help="Seconds between two looks.", metavar="SECONDS", min=0.1)
    ] = 30.0,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", help="CA certificate of the cluster.", metavar="FILE", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Write the alerts of Kibana's detection engine into the audit trail; exit code 2 if it could not.

    Credentials come from the same variables as those of mlaudit install; the user needs the role mlaudit_alerts.
    """
    from mlaudit.detect import commands
    from mlaudit.errors import SourceError

    if once == follow:
        raise SourceError("expected either --once (let a timer repeat it) or --follow")
    raise typer.Exit(
        commands.kibana(elasticsearch, ca_file, since, space, every, follow=follow, as_json=as_json)
    )
