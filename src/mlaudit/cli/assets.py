"""``mlaudit catalog`` and ``mlaudit install``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


def catalog_command(
    kind: Annotated[str, typer.Argument(help="A kind of event; all of them when left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """List the kinds of event, or show one with its fields and a sample."""
    from mlaudit.catalog import commands

    commands.show(kind, as_json=as_json)


class _Profile(StrEnum):
    AUTO = "auto"
    FULL = "full"
    REDUCED = "reduced"


def install_command(
    elasticsearch: Annotated[
        str, typer.Option("--elasticsearch", help="Address of the cluster.", metavar="URL")
    ],
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            help="CA that signed the cluster's certificate.",
            metavar="FILE",
            envvar="MLAUDIT_ES_CA_FILE",
        ),
    ] = None,
    profile: Annotated[
        _Profile, typer.Option("--profile", help="What the cluster can carry; auto asks it.")
    ] = _Profile.AUTO,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing.")] = False,
) -> None:
    """Install templates, lifecycle policies and roles into Elasticsearch; running it again changes nothing.

    Credentials come from MLAUDIT_ES_USERNAME and MLAUDIT_ES_PASSWORD, or MLAUDIT_ES_API_KEY; each may be given
    as a file by the variable with _FILE behind its name.
    """
    from mlaudit.install import commands

    commands.run(elasticsearch, ca_file, profile.value, dry_run=dry_run)
