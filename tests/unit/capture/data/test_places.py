"""Where data is, without what must not be recorded."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlaudit.capture.data.places import Place, place_of, places_of


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/a.csv", "/data/a.csv"),
        (Path("/data/a b.csv"), "/data/a b.csv"),
        (b"/data/a.csv", "/data/a.csv"),
        ("file:///data/a.csv", "/data/a.csv"),
        ("s3://bucket/a.csv", "s3://bucket/a.csv"),
        ("s3://key:secret@bucket/a.csv", "s3://bucket/a.csv"),
        ("https://ada@host:8443/a.csv?X-Amz-Signature=secret#secret", "https://host:8443/a.csv"),
        ("simplecache::s3://key:secret@bucket/a.csv", "s3://bucket/a.csv"),
        (
            "abfss://container@account.dfs.core.windows.net/a",
            "abfss://container@account.dfs.core.windows.net/a",
        ),
        ("abfss://user:secret@account/a", "abfss://account/a"),
        ("http://[broken/secret", "<address>"),
        ('{"name": "Ada"}', "<text>"),
        ("  [1, 2]", "<text>"),
        ("<a>Ada</a>", "<text>"),
        ("a,b\n1,2", "<text>"),
        ("x" * 5000, "<text>"),
        (io.BytesIO(b"Ada"), "<BytesIO>"),
        (b"x" * 5000, "<bytes>"),
        (None, "<NoneType>"),
        (["/data/a.csv", "/data/b.csv"], "/data/a.csv"),
        (
            SimpleNamespace(path="bucket/a.csv", fs=SimpleNamespace(protocol=("s3", "s3a"))),
            "s3://bucket/a.csv",
        ),
        (SimpleNamespace(path="/data/a.csv", fs=SimpleNamespace(protocol="file")), "/data/a.csv"),
        (SimpleNamespace(name=3, path="/data/a.csv"), "/data/a.csv"),
    ],
)
def test_a_place_is_named_without_credentials_or_data(source: Any, name: str) -> None:
    """Paths, addresses, documents taken for paths, memory and open files."""
    found = place_of(source)
    assert found.name == name
    assert "secret" not in str(found)
    assert "Ada" not in str(found)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was written: a link's name is its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("a\n")
    os.symlink("a.csv", "link.csv")  # noqa: PTH211 - as it is written
    assert place_of("a.csv") == Place(f"{tmp_path}/a.csv", (tmp_path / "a.csv").as_uri(), f"{tmp_path}/a.csv")
    assert place_of("link.csv").name == f"{tmp_path}/link.csv"
    with open("a.csv") as file:  # noqa: PTH123 - a relative name
        assert place_of(file).name == f"{tmp_path}/a.csv"


def test_the_size_is_of_a_local_file_alone(tmp_path: Path) -> None:
    """Not of a folder, nor of what is elsewhere."""
    (tmp_path / "a.csv").write_text("a\n")
    assert place_of(tmp_path / "a.csv").size == 2
    assert place_of(tmp_path).size is None
    assert place_of("s3://bucket/a.csv").size is None


def test_a_place_is_its_own_place() -> None:
    """Of several sources there are several."""
    place = Place("<BytesIO>")
    assert places_of(place) == [place]
    assert [one.name for one in places_of(["/a", "/b"])] == ["/a", "/b"]
