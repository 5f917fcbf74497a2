"""docs/guarantees.md: every promise names a test or a cell of the fault matrix, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| Promise", "|---"))
]
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
CELLS = re.findall(r"`make fault`: ((?:`[\w-]+`(?:, )?)+)", PAGE)


def test_every_promise_has_a_limit_and_a_proof() -> None:
    """A row of the page gives a promise, its limit and at least one test or cell."""
    assert len(ROWS) > 20
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
        assert "::" in row[2] or "`make " in row[2], row


@pytest.mark.parametrize(("file", "name"), sorted(set(TESTS)))
def test_named_test_exists(file: str, name: str) -> None:
    """A test that the page names is defined in the file it names."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions


def test_named_cells_exist() -> None:
    """A cell of the fault matrix that the page names is one of the matrix."""
    from tests.fault.matrix.cells import all_cells

    named = {cell for group in CELLS for cell in re.findall(r"`([\w-]+)`", group)}
    assert named
    assert named <= {cell.name for cell in all_cells()}
