"""The fault matrix keeps working: some of its cells at a hundredth of their size, and its judgement."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault.matrix import results
from tests.fault.matrix.__main__ import run_cell
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.cells import all_cells
from tests.fault.matrix.ground import Ground

from mlaudit.stack import Stack

SCALE = 0.01


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since Elasticsearch and audited processes put paths into records."""
    made = Path(tempfile.mkdtemp(prefix="mlaudit-cell-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize("name", ["kill-script-offline", "fork-after-start", "clock-back", "torn-write"])
def test_cell_holds(name: str, stack: Stack, folder: Path) -> None:
    """Nothing lost, nothing twice, and a trail that verifies, also at small size."""
    (cell,) = [cell for cell in all_cells() if cell.name == name]
    row = run_cell(cell, stack, folder, SCALE)
    assert row["ok"], row["faults"]


def test_a_lost_record_is_noticed(stack: Stack, folder: Path) -> None:
    """A call that has returned without its record being stored makes a cell fail."""

    def run(ground: Ground) -> Outcome:
        ground.workload("--count", 60).finish()
        with ground.notebook.path.open("a") as file:
            file.write("0199aaaa-0000-7000-8000-000000000000\n")
        return ground.judge(seconds=4)

    row = run_cell(Cell("a-loss", "", run), stack, folder, SCALE / 10)
    assert not row["ok"]
    assert row["lost"] == 1
    assert row["acknowledged"] == row["stored"] + 1 == 61


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"lost": 1}, "lost"),
        ({"lost": 1, "expected_lost": 1}, ""),
        ({"duplicates": 2}, "duplicates"),
        ({"acknowledged": 9}, "at least 10 acknowledged"),
        ({"verify": "2 findings: chain.gap, source.torn"}, "from verify"),
        ({"verify": "2 findings: chain.gap", "expected_findings": ("chain.gap",)}, ""),
        ({"expected_findings": ("chain.gap",)}, "from verify: chain.gap"),
        ({"verify": "not looked at"}, "from verify"),
        ({"faults": ["expected 1, found 2"]}, "expected 1, found 2"),
    ],
)
def test_judgement(change: dict[str, Any], said: str) -> None:
    """A row is good only if every requirement holds, and says which does not."""
    outcome = Outcome(**{**_GOOD, **change})
    assert bool(outcome.judge(10)) is bool(said)
    assert said in " ".join(outcome.judge(10))


def test_rows_of_single_cells_are_merged_into_the_results(tmp_path: Path) -> None:
    """Running one cell again replaces its row alone; one bad row makes the results bad."""
    out = tmp_path / "results.json"
    cells = [Cell(name, f"What {name} does.", lambda ground: Outcome(**_GOOD)) for name in ("one", "two")]
    rows = [results.row(cell, Outcome(**_GOOD), 10, results.now(), 1.0) for cell in cells]
    bad = results.row(cells[0], Outcome(**{**_GOOD, "lost": 1}), 10, results.now(), 1.0)
    assert results.merge(out, rows, "", 0.0, ["one", "two"])["ok"]
    merged = results.merge(out, [bad], "", 0.0, ["one", "two"])
    assert not merged["ok"]
    assert [row["ok"] for row in json.loads(out.read_text())["cells"]] == [False, True]
    assert "| one | 10 | 10 | 10 | 1 | 0 | holds | 1.0 | **no** |" in results.table(merged)


def test_every_cell_is_documented() -> None:
    """docs/faults.md names every cell with its sentence."""
    text = results.DOCUMENT.read_text(encoding="utf-8")
    assert not [cell.name for cell in all_cells() if f"| {cell.name} | {cell.what} |" not in text]


_GOOD: dict[str, Any] = {
    "emitted": 10,
    "acknowledged": 10,
    "stored": 10,
    "lost": 0,
    "duplicates": 0,
    "verify": "holds",
}
