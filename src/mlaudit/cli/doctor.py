"""``mlaudit doctor``."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from mlaudit.cli import options, output
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.health.checks import Result

_STYLES: Final = {
    "ok": "green",
    "warning": "yellow",
    "broken": "bold red",
    "skipped": "dim",
    "not reached": "dim",
}


def doctor_command(
    elasticsearch: options.ElasticsearchOfEnvironment = "",
    ca_file: options.CaFile = None,
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
    as_json: options.Json = False,
) -> None:
    """Check the whole path with a probe record; exit code 0 if it is whole, 1 at a broken link, 2 if called wrongly.

    Run it as the service runs: same user, same MLAUDIT_* variables. It names the first broken link, what was
    expected and found there, and what to do.
    """
    from mlaudit.health.checks import BROKEN, CheckContext, run_checks
    from mlaudit.health.doctor import CHECKS, to_json

    # The report has it; the sender's warnings would only interleave with its lines.
    logging.getLogger("mlaudit").addHandler(logging.NullHandler())
    context = CheckContext(os.environ, elasticsearch, ca_file, metrics, wait)
    console = output.console()
    width = max(len(step) for step, _ in CHECKS)
    results = run_checks(
        CHECKS, context, (lambda _: None) if as_json else (lambda one: show(one, console, width))
    )
    broken = next((one for one in results if one.state == BROKEN), None)
    if as_json:
        output.write_json(to_json(results, context))
    elif broken is None:
        warnings = sum(len(one.warnings) for one in results)
        suffix = f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
        not_checked = "" if elasticsearch else "; Elasticsearch was not checked (--elasticsearch URL)"
        console.print(f"[bold green]the path is whole[/]{suffix}{not_checked}")
    else:
        console.print(Text.assemble(("the path breaks at ", "bold red"), (broken.step, "bold red")))
    raise typer.Exit(output.FINE if broken is None else output.FINDINGS)


def show(result: Result, console: Console, width: int) -> None:
    """Prints one result; nothing that a server or a file says reaches the terminal unescaped."""
    from mlaudit.health.checks import BROKEN, NOT_REACHED, SKIPPED

    line = Text.assemble(
        (f"{result.state:<{len(NOT_REACHED)}}  ", _STYLES[result.state]), f"{result.step:<{width}}  "
    )
    if result.state != BROKEN:
        line.append(safe(result.found), style="dim" if result.state == SKIPPED else "")
    console.print(line)
    indent = " " * (len(NOT_REACHED) + 2)
    if result.state == BROKEN:
        for label, text in (("expected", result.expected), ("found", result.found), ("do", result.remedy)):
            console.print(Text(f"{indent}{label:<9} {safe(text)}"))
    for warning in result.warnings:
        console.print(Text(f"{indent}{safe(warning['found'])}: {safe(warning['remedy'])}", style="yellow"))
