"""Every example, audited by its environment alone, over the whole path."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.plays import EXAMPLES_TO_PLAY, Example

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.stack, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def summary() -> Iterator[dict[str, Any]]:
    """What ``make examples`` writes."""
    # Not tmp_path_factory: its folders are closed to the unprivileged user that runs Elasticsearch.
    with tempfile.TemporaryDirectory(prefix="mlaudit-examples-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "examples", folder], cwd=ROOT, capture_output=True, text=True, check=False
        )
        written = Path(folder) / "summary.json"
        assert written.is_file(), done.stdout + done.stderr
        yield json.loads(written.read_text())


@pytest.mark.parametrize("example", EXAMPLES_TO_PLAY, ids=lambda one: one.name)
def test_example_leaves_every_kind_it_must(summary: dict[str, Any], example: Example) -> None:
    """All model and data events of an unmodified program are stored, and auditing has no failure in it."""
    row = summary["examples"][example.name]
    assert row["fault"] == ""
    assert example.kinds <= set(row["kinds"])


def test_everything_that_the_examples_left_is_proven(summary: dict[str, Any]) -> None:
    """Verification over Elasticsearch finds each stored record and no fault in any."""
    assert summary["verify"]["ok"] is True
    assert summary["verify"]["findings"] == []
    assert summary["verify"]["records"] == summary["records"] > 0


def test_no_example_knows_that_it_is_audited() -> None:
    """The programs do not mention auditing."""
    for path in (ROOT / "examples").glob("*/*"):
        if path.suffix in (".py", ".ipynb") and path.parent.name != "demo":
            assert "mlaudit" not in path.read_text(encoding="utf-8"), path
