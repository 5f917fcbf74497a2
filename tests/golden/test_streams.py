"""Golden streams: files that verify must keep reading the same way, intact and broken in each way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sealed import NOW

from mlaudit.seal.keys import load_verifier_keys
from mlaudit.verify.proof.finding_codes import CODES
from mlaudit.verify.proof.stored import StoredRecord
from mlaudit.verify.sources.cluster_source import read_hit
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.sources.source import Remarks, Selection, Source
from mlaudit.verify.verification import verify_source

FOLDER = Path(__file__).parent / "streams"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
# Not in a stream: a time-stamp is stored next to an exported checkpoint (tests/unit/verify/test_timestamps.py).
NOT_OF_A_STREAM = {"timestamp.invalid"}


class _Hits:
    """Documents of Elasticsearch from a file."""

    complete = True
    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """See ``Source.read``."""
        return map(read_hit, json.loads(self._path.read_text(encoding="utf-8")))


def _source(name: str) -> Source:
    path = FOLDER / name
    return _Hits(path) if name.endswith(".hits.json") else open_source(path)


@pytest.mark.parametrize("name", EXPECTED)
def test_golden_stream(name: str) -> None:
    """Exactly the expected findings, at the expected places."""
    # The unsigned stream has been silent for more than a day.
    now = NOW.replace(day=27) if name == "checkpoint.missing.jsonl" else NOW

    report = verify_source(_source(name), load_verifier_keys(FOLDER), now=now)

    found = [[f.code, f.stream_id, f.sequence, f.through] for f in report.findings]
    assert sorted(found) == sorted(EXPECTED[name])
    assert report.ok == all(CODES[code][0] == "information" for code, *_ in EXPECTED[name])


def test_every_kind_of_break_has_a_golden_stream() -> None:
    """A new code needs a file."""
    shown = {code for findings in EXPECTED.values() for code, *_ in findings}

    assert shown == CODES.keys() - NOT_OF_A_STREAM


def test_every_golden_file_is_read() -> None:
    """Every file in the folder is in the manifest."""
    files = {path.name for pattern in ("*.jsonl", "*.hits.json") for path in FOLDER.glob(pattern)}
    spools = {f"spool/{path.name}" for path in (FOLDER / "spool").iterdir()}

    assert files | spools == EXPECTED.keys()
