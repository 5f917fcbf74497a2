"""Tampers of every kind, a few at a time: ``make tamper`` plants a thousand."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from tests.tamper import independent, kinds
from tests.tamper.cross_check import CrossCheck
from tests.tamper.file_stores import Archive, Spool
from tests.tamper.judge import draw, judged, scene_of, verify
from tests.tamper.scene import Scene
from tests.tamper.small import KEYS, SIGNER, STRANGER, write_files
from tests.tamper.stores import Documents, Store
from tests.tamper.trail import make_trail

from mlaudit.stack import Stack

SEED = 7
IN_FILES = [(name, kind) for name in ("archive", "spool") for kind in sorted(kinds.kinds_of(name))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """The small trail, as an archive and as a spool."""
    spool, archive = write_files(tmp_path_factory.mktemp("trail"))
    stores = {"archive": Archive(archive), "spool": Spool(spool)}
    yield dict(stores)
    for store in stores.values():
        store.close()


@pytest.fixture(scope="module")
def scenes(files: dict[str, Store]) -> dict[str, Scene]:
    """What a tamperer knows of each store."""
    return {name: scene_of(store, SEED, SIGNER, STRANGER) for name, store in files.items()}


@pytest.mark.parametrize("name", ["archive", "spool"])
def test_untouched_files_hold(files: dict[str, Store], name: str) -> None:
    """Unchanged files give no finding, neither by verify nor by an independent verifier."""
    assert verify(files[name], KEYS).findings == []
    if name == "archive":
        assert CrossCheck(KEYS, SIGNER).faults(files[name], None) == []


@pytest.mark.parametrize(("name", "kind"), IN_FILES)
def test_tamper_in_files_is_named(scenes: dict[str, Scene], name: str, kind: str) -> None:
    """Every tamper with a file is found exactly, at its place."""
    scene = scenes[name]
    tamper = draw(scene, kinds.kinds_of(name)[kind])
    assert tamper is not None

    row = judged(scene, 1, kind, tamper, KEYS, CrossCheck(KEYS, SIGNER))

    assert row.found == row.expected or row.named_rightly, row
    assert row.independent is not False, f"the independent verifier does not agree: {row}"


@pytest.mark.parametrize("kind", sorted(kinds.LIMITS))
def test_limits_are_as_documented(scenes: dict[str, Scene], kind: str) -> None:
    """The limits on the page about verification are real."""
    tamper = draw(scenes["archive"], kinds.LIMITS[kind])

    if tamper is None:
        pytest.skip("an archive does not hold what only the collector knew")
    assert judged(scenes["archive"], 1, kind, tamper, KEYS).found == []


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_tampers_in_elasticsearch_are_named(
    stack: Stack, elasticsearch: Elasticsearch, tmp_path: Path
) -> None:
    """In a real Elasticsearch every tamper is found exactly, and unchanged documents give no finding."""
    trail = make_trail(stack, elasticsearch, tmp_path, 60)
    store = Documents(elasticsearch, trail.source(), trail.streams, alone=False)
    scene = scene_of(store, SEED, trail.signer, STRANGER)
    turns = random.Random(SEED).sample(sorted(kinds.kinds_of(store.name).items()), 12)
    try:
        assert verify(store, trail.keys).findings == []
        check = CrossCheck(trail.keys, trail.signer)
        assert check.faults(store, None) == []
        for number, (kind, make) in enumerate(turns, 1):
            tamper = draw(scene, make)
            assert tamper is not None, kind
            row = judged(scene, number, kind, tamper, trail.keys, check)
            assert row.named_rightly, row
            assert row.independent is not False, row
        assert verify(store, trail.keys).findings == []
    finally:
        store.remove()


def test_independent_verifier_stands_alone() -> None:
    """The independent verifier imports nothing of mlaudit and is short enough to be read."""
    text = Path(independent.__file__).read_text(encoding="utf-8")

    assert "import mlaudit" not in text
    assert "from mlaudit" not in text
    assert len([line for line in text.splitlines() if line.strip()]) <= 120


def test_independent_verifier_reads_lines_as_json_has_them(tmp_path: Path) -> None:
    """A line separator inside a text does not end a line of an archive."""
    path = tmp_path / "archive.jsonl"
    log = {"body": {"stringValue": "a\u2028b"}, "attributes": []}
    request = {"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}
    path.write_text(json.dumps(request, ensure_ascii=False) + "\n", encoding="utf-8")

    assert len(list(independent.lines(path))) == 1
