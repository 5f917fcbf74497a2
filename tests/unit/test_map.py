"""The map of the code: docstrings of packages, docs/architecture.md and docs/generation.md name what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tools.generate import GENERATORS, generators

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GENERATION = (ROOT / "docs" / "generation.md").read_text(encoding="utf-8")
PACKAGES = sorted(
    file.parent.relative_to(ROOT).as_posix()
    for top in ("src/mlaudit", "tools")
    for file in (ROOT / top).rglob("__init__.py")
)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(cell: str) -> list[str]:
    """What stands in code quotes."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_it_is(package: str) -> None:
    """A package's docstring has three lines or more, and every module that it names exists."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    text = ast.get_docstring(tree) or ""
    assert len(text.splitlines()) >= 3
    defined = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    exported = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    known = {child.stem for child in (ROOT / package).iterdir()} | defined | exported
    known |= {"mlaudit", "OWNED", "outputs"}
    assert {name for name in re.findall(r"``(\w+)``", text) if name not in known} == set()


def test_every_path_of_the_map_exists() -> None:
    """Each path that docs/architecture.md sends somebody to is a file or a folder that git would keep."""
    table = rows(ARCHITECTURE, "To change X, open Y")
    assert len(table) >= 20
    paths = [path for row in table for cell in row[1:] for path in quoted(cell) if "/" in path or "." in path]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [path for path in paths if (ROOT / path).is_dir() is not path.endswith("/")] == []
    assert [row[0] for row in table if not quoted(row[1])] == []


def test_map_is_one_page() -> None:
    """docs/architecture.md stays a page: one picture of its own, less than a hundred lines, nothing to change twice."""
    assert len(re.findall(r"!\[", ARCHITECTURE)) == 1
    assert len(ARCHITECTURE.splitlines()) < 100
    changes = [row[0] for row in rows(ARCHITECTURE, "To change X, open Y")]
    assert len(set(changes)) == len(changes)


def test_generators_are_listed_with_what_they_own() -> None:
    """docs/generation.md has a row for each generator, with exactly its patterns, and sources that exist."""
    listed = {
        quoted(row[1])[0]: (quoted(row[0]), quoted(row[2]))
        for row in rows(GENERATION, "What is generated from what")
    }
    modules = dict(zip(GENERATORS, generators(), strict=True))
    assert set(listed) == {f"{name.replace('.', '/')}.py" for name in modules}
    for name, module in modules.items():
        owned, sources = listed[f"{name.replace('.', '/')}.py"]
        # A generator that owns no file keeps a part of some: the row names these.
        assert owned == list(module.OWNED or module.outputs(ROOT))
        assert sources, name
        assert all(list(ROOT.glob(source)) for source in sources), name
