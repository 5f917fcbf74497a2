"""How auditing itself is: ``mlaudit status``."""

from __future__ import annotations

from typing import Annotated

import typer


def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long a record may wait before that is said.")
    ] = 60.0,
) -> None:
    """Show every audit stream of this host; exit code 0 if fine, 1 if attention is needed, 2 if it cannot look.

    Looks into the spool of MLAUDIT_SPOOL_DIR, or of MLAUDIT_STATE_DIR.
    """
    from mlaudit.health import status

    raise typer.Exit(status.status(patience, as_json=as_json))
