"""``mlaudit doctor``: follows the path of a record from the settings to the index, and names the first broken link."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from mlaudit.health import cluster_links, collector_links, local_links, probe
from mlaudit.health.checks import BROKEN, NOT_REACHED, OK, SKIPPED, WARNING, Check, Ground, Result, run_checks
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WHOLE: Final = 0
BROKEN_LINK: Final = 1

#: In the order in which a record passes them.
CHECKS: Final[tuple[Check, ...]] = (
    ("settings", local_links.settings),
    ("policy", local_links.policy),
    ("keys", local_links.keys),
    ("spool", local_links.spool),
    ("collector: name", collector_links.name),
    ("collector: connection", collector_links.connection),
    ("collector: certificate", collector_links.tls),
    ("collector: authentication", collector_links.authentication),
    ("collector: acceptance", collector_links.acceptance),
    ("clock", collector_links.clock),
    ("collector: counters", collector_links.counters),
    ("probe: sent", probe.send),
    ("Elasticsearch: name", cluster_links.name),
    ("Elasticsearch: connection", cluster_links.connection),
    ("Elasticsearch: certificate", cluster_links.tls),
    ("Elasticsearch: authentication", cluster_links.authentication),
    ("Elasticsearch: templates", cluster_links.templates),
    ("probe: arrived", cluster_links.arrival),
    ("probe: verified", cluster_links.proof),
)
_STYLES: Final = {OK: "green", WARNING: "yellow", BROKEN: "bold red", SKIPPED: "dim", NOT_REACHED: "dim"}
_STATE_WIDTH: Final = len(NOT_REACHED)
_STEP_WIDTH: Final = max(len(step) for step, _ in CHECKS)


def doctor(
    elasticsearch: str,
    ca_file: Path | None,
    metrics: str,
    wait: float,
    *,
    as_json: bool,
    env: Mapping[str, str] | None = None,
) -> int:
    """Runs every check and prints the results; 0 when the path works, 1 when a link is broken."""
    # The report has it; the sender's warnings would only interleave with its lines.
    logging.getLogger("mlaudit").addHandler(logging.NullHandler())
    ground = Ground(os.environ if env is None else env, elasticsearch, ca_file, metrics, wait)
    console = Console(highlight=False, soft_wrap=True)
    results = run_checks(CHECKS, ground, (lambda _: None) if as_json else (lambda one: show(one, console)))
    broken = next((one for one in results if one.state == BROKEN), None)
    if as_json:
        json.dump(to_json(results, ground), sys.stdout, indent=2, ensure_ascii=True)
        sys.stdout.write("\n")
    elif broken is None:
        warnings = sum(len(one.warnings) for one in results)
        told = f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
        unlooked = "" if elasticsearch else "; Elasticsearch was not checked (--elasticsearch URL)"
        console.print(f"[bold green]the path is whole[/]{told}{unlooked}")
    else:
        console.print(Text.assemble(("the path breaks at ", "bold red"), (broken.step, "bold red")))
    return WHOLE if broken is None else BROKEN_LINK


def to_json(results: list[Result], ground: Ground) -> dict[str, Any]:
    """The results as plain values."""
    broken = next((one.step for one in results if one.state == BROKEN), None)
    return {
        "ok": broken is None,
        "broken": broken,
        "warnings": sum(len(one.warnings) for one in results),
        "probe": asdict(ground.probe) if ground.probe else None,
        "checks": [asdict(one) for one in results],
    }


def show(result: Result, console: Console) -> None:
    """Prints one result; nothing that a server or a file says reaches the terminal unescaped."""
    line = Text.assemble(
        (f"{result.state:<{_STATE_WIDTH}}  ", _STYLES[result.state]), f"{result.step:<{_STEP_WIDTH}}  "
    )
    if result.state != BROKEN:
        line.append(safe(result.found), style="dim" if result.state == SKIPPED else "")
    console.print(line)
    indent = " " * (_STATE_WIDTH + 2)
    if result.state == BROKEN:
        for label, text in (("expected", result.expected), ("found", result.found), ("do", result.remedy)):
            console.print(Text(f"{indent}{label:<9} {safe(text)}"))
    for warning in result.warnings:
        console.print(Text(f"{indent}{safe(warning['found'])}: {safe(warning['remedy'])}", style="yellow"))
