"""Golden streams: files that verify must go on reading the same way, whole and broken in each way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sealed import NOW

from mlaudit.seal.finding import CODES
from mlaudit.seal.keys import load_verifier_keys
from mlaudit.verify.chain import verify_source
from mlaudit.verify.source import open_source

FOLDER = Path(__file__).parent / "streams"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPECTED)
def test_golden_stream(name: str) -> None:
    """Exactly the expected findings, at the expected places."""
    # The stream that nobody signed has been silent for more than a day.
    now = NOW.replace(day=27) if name == "checkpoint.missing" else NOW

    report = verify_source(open_source(FOLDER / f"{name}.jsonl"), load_verifier_keys(FOLDER), now=now)

    found = [[f.code, f.stream_id, f.sequence, f.through] for f in report.findings]
    assert found == EXPECTED[name]
    assert report.ok == all(CODES[code][0] == "information" for code, *_ in EXPECTED[name])


def test_every_kind_of_break_has_a_golden_stream() -> None:
    """A new code needs a file; what only a file format can break is tested with the format."""
    shown = {code for findings in EXPECTED.values() for code, *_ in findings}
    elsewhere = {"document.place", "checkpoint.retired_key", "timestamp.invalid"}

    assert shown == {code for code in CODES if not code.startswith("source.")} - elsewhere
