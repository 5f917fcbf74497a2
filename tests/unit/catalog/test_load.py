"""Reading the catalog's files: everything that is wrong with them is refused, and all of it is listed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlaudit.catalog.load import DATA, load_catalog, read_catalog
from mlaudit.errors import CatalogError


def _field(type_: str) -> str:
    return f"ml.new: {{origin: ecs, sensitivity: none, meaning: m, example: e, type: {type_}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged files, to break."""
    return Path(shutil.copytree(DATA, tmp_path / "data"))


def test_packaged_catalog_has_the_kinds_of_every_area() -> None:
    """The packaged catalog loads, checked, with kinds of every file."""
    catalog = load_catalog()
    assert set(catalog.areas.values()) == {path.stem for path in (DATA / "kinds").glob("*.yaml")}
    assert {"audit.ml.prediction", "audit.stream.checkpoint", "audit.app.*"} <= set(catalog.kinds)


def test_every_fault_is_listed_at_once(folder: Path) -> None:
    """A missing file and a broken one are both named in the one error."""
    (folder / "classes.yaml").unlink()
    (folder / "policy.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        read_catalog(folder)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["classes.yaml", "policy.yaml"]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("classes.yaml", "- a\n", "expected a mapping, found list"),
        (
            "classes.yaml",
            "system:\n  meaning: a\nsystem:\n  meaning: b\n",
            "classes.yaml:3: system: duplicate key, first given in line 1",
        ),
        ("kinds/more.yaml", "audit.ml.prediction: {}\n", "is already written in another file"),
        ("fields/more.yaml", "ml.model.name: {}\n", "is already written in another file"),
        ("fields/more.yaml", "ml.new: {type: keyword}\n", "fields > ml.new > meaning: Field required"),
        ("fields/more.yaml", _field("string"), "fields > ml.new > type: Input should be"),
        ("fields/more.yaml", _field("keyword, index: no"), "fields > ml.new > index: Extra inputs"),
        (
            "fields/more.yaml",
            _field("keyword, list: 1"),
            "fields > ml.new > list: Input should be a valid boolean",
        ),
    ],
)
def test_wrong_file_is_refused(folder: Path, file: str, text: str, expected: str) -> None:
    """A file of the wrong shape is refused, with its place and what is wrong."""
    (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        read_catalog(folder)
    assert any(expected in fault for fault in caught.value.faults), caught.value.faults
