"""Every line of the governance policy is met and proven, and the proofs exist."""

from __future__ import annotations

import ast
from functools import cache

import pytest
from tools.generate import repository
from tools.generators.documents import is_open, kinds_by_line

from mlaudit.catalog.load import load_catalog

CATALOG = load_catalog()
LINES = CATALOG.policy.lines()
KINDS = kinds_by_line(CATALOG)
PROOFS = sorted({proof for line in LINES.values() for proof in line.proofs})


@cache
def _tests(file: str) -> frozenset[str]:
    tree = ast.parse((repository() / file).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith(("2.", "3."))])
def test_line_of_what_must_be_recorded_has_a_kind_and_a_proof(line: str) -> None:
    """Each line of the scope and of data collection has at least one kind of event, proven by a test."""
    assert KINDS[line]
    assert LINES[line].proofs


@pytest.mark.parametrize("line", list(LINES))
def test_line_is_not_open(line: str) -> None:
    """Each line of the document is met by a kind or by another part of the product, shown by a test."""
    assert not is_open(LINES[line], KINDS[line])


@pytest.mark.parametrize("proof", PROOFS)
def test_proof_is_a_test(proof: str) -> None:
    """A proof names a test that is defined in the file it names."""
    file, _, name = proof.partition("::")
    assert name.startswith("test_")
    assert name in _tests(file)


def test_every_control_is_served() -> None:
    """No control is listed that no kind of event is evidence for."""
    served = {control for kind in CATALOG.kinds.values() for control in kind.controls}
    assert set(CATALOG.controls.controls) == served
