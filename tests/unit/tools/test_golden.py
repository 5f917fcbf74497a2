"""Generators against golden files, over a catalog small enough to read: tests/golden/assets.

``UPDATE_GOLDEN=1 pytest tests/unit/tools/test_golden.py`` rewrites them; read the difference before you commit it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tools.generators import documents, elasticsearch_assets, fields

from mlaudit.catalog.load import read_catalog
from mlaudit.catalog.model import Catalog

GOLDEN = Path(__file__).resolve().parents[2] / "golden/assets"


def _profile(name: str) -> Callable[[Catalog], str]:
    return lambda catalog: json.dumps(elasticsearch_assets.assets_of(catalog, name), indent=2) + "\n"


@pytest.mark.parametrize(
    ("file", "generator"),
    [
        ("fields.py.txt", fields.source),
        ("elasticsearch-full.json", _profile("full")),
        ("elasticsearch-reduced.json", _profile("reduced")),
        ("events.md", documents.events),
        ("coverage.md", documents.coverage),
    ],
)
def test_output_is_as_the_golden_file(file: str, generator: Callable[[Catalog], str]) -> None:
    """What a generator writes for the small catalog is, letter by letter, what was once read and approved."""
    made = generator(read_catalog(GOLDEN / "catalog"))
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / file).write_text(made, encoding="utf-8")
    assert made == (GOLDEN / file).read_text(encoding="utf-8")


def test_generated_module_of_the_small_catalog_runs() -> None:
    """The generated module is Python that runs, and its kinds say what the catalog says."""
    names: dict[str, object] = {}
    exec(compile((GOLDEN / "fields.py.txt").read_text(encoding="utf-8"), "fields.py", "exec"), names)
    kinds = names["KINDS"]
    assert isinstance(kinds, dict)
    assert kinds["audit.area.done"].message == ("", "audit.actor.id", ' did "it"')
    assert kinds["audit.app.*"].event_kind == "alert"
    assert kinds["audit.area.done"].severity_failure == 17
