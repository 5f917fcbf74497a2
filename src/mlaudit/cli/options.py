"""Every option and argument that more than one command has: its name, help, variable and placeholder, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")
]

# The cluster
_CLUSTER_HELP = "Address of the cluster; credentials by MLAUDIT_ES_* variables."
ElasticsearchRequired = Annotated[str, typer.Option("--elasticsearch", metavar="URL", help=_CLUSTER_HELP)]
Elasticsearch = Annotated[str | None, typer.Option("--elasticsearch", metavar="URL", help=_CLUSTER_HELP)]
ElasticsearchOfEnvironment = Annotated[
    str, typer.Option("--elasticsearch", metavar="URL", envvar="MLAUDIT_ES_URL", help=_CLUSTER_HELP)
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        envvar="MLAUDIT_ES_CA_FILE",
        help="CA of the cluster's certificate (PEM).",
    ),
]
Namespace = Annotated[str, typer.Option(help="Namespace of the data streams; * for all.")]

# What is trusted
Keys = Annotated[
    Path | None,
    typer.Option("--keys", metavar="DIR", help="Trusted .pub files [default: the state folder's]."),
]
FollowRotations = Annotated[
    bool,
    typer.Option("--follow-rotations", help="Trust keys that a trusted key vouches for by a rotation, too."),
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        metavar="PATH",
        help="Signed checkpoints from outside the store, a file or a folder; repeatable.",
    ),
]
TsaCa = Annotated[
    Path | None,
    typer.Option("--tsa-ca", metavar="FILE", help="Certificates of trusted time-stamping authorities (PEM)."),
]

# Which records
Since = Annotated[str, typer.Option(help="Leave out what is older, e.g. 2026-11-25T03:30:00Z.")]
Until = Annotated[str, typer.Option(help="Leave out what is at or after this time.")]
Stream = Annotated[str, typer.Option(metavar="ID", help="This stream alone.")]
Archives = Annotated[
    list[Path] | None,
    typer.Option("--archive", metavar="PATH", help="Archive file or folder to look into; repeatable."),
]

# How it runs
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, change nothing.")]
Once = Annotated[bool, typer.Option("--once", help="Look once and return; repeat it by a timer.")]
StackDirectory = Annotated[
    Path, typer.Option("--dir", help="Folder for state, credentials, logs and data.", metavar="DIR")
]
KeysDirectory = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Folder of the keys [default: the state folder's]."),
]
