"""``mlaudit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlaudit.cli import options, output
from mlaudit.cli.coverage_report import print_coverage
from mlaudit.cli.verify_report import print_report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlaudit.verify.inputs import Cluster, Trust, Window
    from mlaudit.verify.report import Report


def verify_command(
    source: Annotated[
        Path | None, typer.Argument(help="Spool folder, archive file, or folder of archive files.")
    ] = None,
    elasticsearch: options.Elasticsearch = None,
    since: options.Since = "",
    until: options.Until = "",
    stream: options.Stream = "",
    keys: options.Keys = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Do not check signatures; says so loudly.")
    ] = False,
    follow_rotations: options.FollowRotations = False,
    checkpoint: options.Checkpoints = None,
    tsa_ca: options.TsaCa = None,
    namespace: options.Namespace = "*",
    ca_file: options.CaFile = None,
    settle: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Wait for records still on their way to the cluster."),
    ] = 10.0,
    coverage: Annotated[
        bool,
        typer.Option(
            "--coverage", help="Compare what is signed with what Elasticsearch holds, record by record."
        ),
    ] = False,
    archive: options.Archives = None,
    as_json: options.Json = False,
) -> None:
    """Prove a trail: exit code 0 when all holds, 1 for findings, 2 when it could not check.

    With --coverage, --archive names where to look, too, for what is missing.
    """
    from mlaudit.verify.inputs import Cluster, Trust, Window

    cluster = Cluster(elasticsearch, ca_file, namespace)
    trust = Trust(keys, follow_rotations, tuple(checkpoint or ()), tsa_ca, unsigned)
    window = Window(since, until, stream)
    if coverage:
        if unsigned or until:
            raise typer.BadParameter(
                "expected no --unsigned and no --until: coverage is about what is signed"
            )
        archives = [*(archive or []), *([source] if source else [])]
        _cover(cluster, trust, window, archives, settle, as_json=as_json)
    with output.could_not_check(
        "verify", as_json=as_json, answer={"records": 0, "streams": [], "findings": []}
    ):
        report = _verify(source, cluster, trust, window, settle, as_json=as_json)
    if as_json:
        output.write_json(report.to_json())
    else:
        print_report(report, output.console())
    raise typer.Exit(output.FINE if report.ok else output.FINDINGS)


def _verify(
    source: Path | None, cluster: Cluster, trust: Trust, window: Window, settle: float, *, as_json: bool
) -> Report:
    from mlaudit.verify.run import verify

    progress = output.progress()
    if as_json or not progress.is_terminal:
        return verify(source, cluster, trust, window, settle=settle)
    with progress.status("reading …") as status:
        return verify(
            source,
            cluster,
            trust,
            window,
            settle=settle,
            progress=lambda count: status.update(f"{count:,} records read"),
        )


def _cover(
    cluster: Cluster, trust: Trust, window: Window, archives: Iterable[Path], settle: float, *, as_json: bool
) -> None:
    """Measures the coverage and ends the command."""
    from mlaudit.verify.repair.measure import measure

    with output.could_not_check("verify", as_json=as_json, answer={"streams": []}):
        coverage = measure(cluster, trust, window, archives, settle=settle)
        coverage.source.close()
    if as_json:
        output.write_json(coverage.to_json())
    else:
        print_coverage(coverage, output.console())
    raise typer.Exit(output.FINE if coverage.ok else output.FINDINGS)
