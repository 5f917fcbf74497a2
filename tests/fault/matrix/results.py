"""The results file and the table."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import ROOT

OUT = ROOT / "build" / "fault" / "results.json"
DOCUMENT = ROOT / "docs" / "faults.md"
_CELLS = "## The cells\n\n"
_MEASURED = "\n## Measured\n\n"
Row = dict[str, Any]


def now() -> str:
    """The present, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit() -> str:
    """The source that is being tested."""
    command = ("git", "describe", "--always", "--dirty")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def row(cell: Cell, outcome: Outcome, least: int, started: str, seconds: float) -> Row:
    """One cell's row."""
    faults = outcome.judge(least)
    findings = ", ".join(outcome.expected_findings)
    usual = f"lost 0, duplicates 0, verify {f'names exactly {findings}' if findings else 'holds'}"
    return {
        "cell": cell.name,
        "group": cell.group,
        "what": cell.what,
        "emitted": outcome.emitted,
        "acknowledged": outcome.acknowledged,
        "stored": outcome.stored,
        "lost": outcome.lost,
        "duplicates": outcome.duplicates,
        "verify": outcome.verify,
        "seconds": round(seconds, 1),
        "expectation": outcome.expectation or usual,
        "ok": not faults,
        "faults": faults,
        "notes": outcome.notes,
        "started": started,
        "commit": commit(),
    }


def failed_row(cell: Cell, error: str, started: str, seconds: float) -> Row:
    """The row of a cell that did not come to its end."""
    row_of = row(cell, Outcome(0, 0, 0, 0, 0, "not looked at"), 0, started, seconds)
    return row_of | {"ok": False, "faults": [error]}


def merge(out: Path, rows: Sequence[Row], command: str, began: float, order: Sequence[str]) -> dict[str, Any]:
    """Writes the results: rows of this run replace older ones of the same cell, others stay."""
    kept: dict[str, Row] = {}
    if out.exists():
        kept = {old["cell"]: old for old in json.loads(out.read_text())["cells"]}
    kept |= {new["cell"]: new for new in rows}
    cells = sorted(
        kept.values(), key=lambda one: order.index(one["cell"]) if one["cell"] in order else len(order)
    )
    results = {
        "command": command,
        "started": datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(time.time() - began, 1),
        "commit": commit(),
        "machine": machine(),
        "cells": cells,
        "ok": all(one["ok"] for one in cells),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".new")
    temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    temporary.replace(out)
    return results


COLUMNS = ("cell", "emitted", "acknowledged", "stored", "lost", "duplicates", "verify", "seconds", "ok")


def table(results: dict[str, Any]) -> str:
    """The rows as a Markdown table, with the machine's size and the date."""
    size = results["machine"]
    memory = round(size["memory_bytes"] / 2**30)
    first = min((one["started"] for one in results["cells"]), default=results["started"])
    lines = [
        f"Measured {first[:10]} on {size['cores']} cores and {memory} GiB.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "|".join("---" if name in ("cell", "verify", "ok") else "---:" for name in COLUMNS) + "|",
    ]
    for one in results["cells"]:
        shown = {**one, "ok": "yes" if one["ok"] else "**no**"}
        lines.append("| " + " | ".join(_shown(shown[name]) for name in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def sentences(cells: Sequence[Cell]) -> str:
    """What each cell does, as a Markdown table."""
    lines = ["| cell | what happens |", "|---|---|", *(f"| {cell.name} | {cell.what} |" for cell in cells)]
    return "\n".join(lines) + "\n"


def write_document(path: Path, cells: Sequence[Cell], results: dict[str, Any]) -> None:
    """Puts both tables into the document, each below its heading."""
    before, _, rest = path.read_text().partition(_CELLS)
    assert rest.partition(_MEASURED)[1], f"expected the headings {_CELLS!r} and {_MEASURED!r} in {path}"
    path.write_text(f"{before}{_CELLS}{sentences(cells)}{_MEASURED}{table(results)}")


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
