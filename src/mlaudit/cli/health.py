"""How auditing itself is: ``mlaudit status`` and ``mlaudit doctor``."""

from __future__ import annotations

from pathlib import Path
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


def doctor_command(
    elasticsearch: Annotated[
        str,
        typer.Option(
            "--elasticsearch",
            metavar="URL",
            envvar="MLAUDIT_ES_URL",
            help="Cluster in which the probe is to arrive; credentials by MLAUDIT_ES_* variables.",
        ),
    ] = "",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", help="CA of the cluster (PEM).", envvar="MLAUDIT_ES_CA_FILE"
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            "--collector-metrics",
            metavar="URL",
            envvar="MLAUDIT_COLLECTOR_METRICS_URL",
            help="The collector's own metrics page, e.g. http://127.0.0.1:8888/metrics.",
        ),
    ] = "",
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, help="How long the probe may take on each half of its way."),
    ] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Check the whole path with a probe record; exit code 0 if it is whole, 1 at a broken link, 2 if called wrongly.

    Run it as the service runs: same user, same MLAUDIT_* variables. It names the first broken link, what was
    expected and found there, and what to do.
    """
    from mlaudit.health import doctor

    raise typer.Exit(doctor.doctor(elasticsearch, ca_file, metrics, wait, as_json=as_json))
