"""``python -m tests.fault.matrix``: runs the matrix and writes its results.

Exit code 1 when something that is required does not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.fault.matrix import results
from tests.fault.matrix.cell import Cell
from tests.fault.matrix.cells import all_cells
from tests.fault.matrix.ground import Ground

from mlaudit.stack import Stack


def say(text: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run_cell(cell: Cell, stack: Stack, folder: Path, scale: float) -> results.Row:
    """Runs one cell on fresh ground; a cell that cannot be run is a row too."""
    started, began = results.now(), time.monotonic()
    ground = Ground(stack, cell.name, folder / cell.name, scale)
    try:
        outcome = cell.run(ground)
    except Exception:  # noqa: BLE001 - one cell must not end the others
        return results.failed_row(cell, traceback.format_exc(limit=-4), started, time.monotonic() - began)
    finally:
        ground.close()
    return results.row(cell, outcome, ground.scaled(cell.records), started, time.monotonic() - began)


def told(row: results.Row) -> str:
    """A row in a line."""
    numbers = " ".join(f"{name} {row[name]:,}" for name in ("acknowledged", "stored", "lost", "duplicates"))
    verdict = "ok" if row["ok"] else "NOT OK: " + "; ".join(row["faults"])
    return f"{row['cell']}: {numbers}, verify {row['verify']}, {row['seconds']} s: {verdict}"


def chosen_cells(only: str, group: str) -> list[Cell]:
    """The cells that were asked for, in order."""
    names = {name for name in only.split(",") if name}
    cells = all_cells()
    if unknown := names - {cell.name for cell in cells}:
        sys.exit(f"no such cell: {', '.join(sorted(unknown))}; --list names them")
    return [cell for cell in cells if (not names or cell.name in names) and group in ("", cell.group)]


def run(cells: Sequence[Cell], scale: float, out: Path, keep: bool) -> bool:
    """Runs cells on one stack; whether everything required holds."""
    command = f"python -m tests.fault.matrix {' '.join(sys.argv[1:])}".strip()
    began = time.time()
    # The unprivileged user that runs Elasticsearch has to get into it.
    folder = Path(tempfile.mkdtemp(prefix="mlaudit-fault-"))
    folder.chmod(0o755)
    rows: list[results.Row] = []
    order = [cell.name for cell in all_cells()]
    estimate = sum(cell.minutes for cell in cells) * min(1.0, scale)
    say(f"{len(cells)} cells, about {estimate:.0f} minutes at scale {scale:g}")
    try:
        with Stack(folder / "stack", archive=folder / "archive.jsonl", report=say) as stack:
            for number, cell in enumerate(cells, 1):
                say(f"[{number}/{len(cells)}] {cell.name}: {cell.what}")
                rows.append(run_cell(cell, stack, folder, scale))
                say(told(rows[-1]))
                results.merge(out, rows, command, began, order)
    finally:
        if keep:
            say(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    written = results.merge(out, rows, command, began, order)
    print("\n" + results.table(written | {"cells": rows}))
    return all(row["ok"] for row in rows)


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.matrix", description=__doc__)
    parser.add_argument("--only", default="", help="names of cells, separated by commas")
    parser.add_argument("--group", default="", help="the cells of one group")
    parser.add_argument("--scale", type=float, default=1.0, help="records of each cell, times this")
    parser.add_argument("--out", type=Path, default=results.OUT)
    parser.add_argument("--list", action="store_true", help="the cells and what they do, in Markdown")
    parser.add_argument("--table", action="store_true", help="the table of the results file, in Markdown")
    parser.add_argument("--document", action="store_true", help="write both tables into docs/faults.md")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    arguments = parser.parse_args()
    if arguments.table:
        print(results.table(json.loads(arguments.out.read_text())), end="")
        return
    if arguments.document:
        results.write_document(results.DOCUMENT, all_cells(), json.loads(arguments.out.read_text()))
        return
    cells = chosen_cells(arguments.only, arguments.group)
    if arguments.list:
        print(results.sentences(cells), end="")
        return
    sys.exit(not run(cells, arguments.scale, arguments.out, arguments.keep))


if __name__ == "__main__":
    main()
