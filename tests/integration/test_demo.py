"""The demo, as ``make demo`` runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlaudit.detect.plans import load_plans

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo may write; the unprivileged user that runs Elasticsearch can enter it."""
    made = Path(tempfile.mkdtemp(prefix="mlaudit-demo-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.stack
@pytest.mark.timeout(400)
def test_demo_shows_the_whole_path(folder: Path) -> None:
    """The demo succeeds: every sealed record is stored and verified, every rule fires, tampering is reported."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    summary = json.loads((folder / "summary.json").read_text())
    sealed = sum(summary["events"].values())
    assert summary["elasticsearch_documents"] == sealed == summary["verify_before"]["records"]
    assert summary["verify_before"] == {"ok": True, "records": sealed, "findings": []}
    assert summary["verify_after"]["records"] == sealed - 1
    assert {finding["code"] for finding in summary["verify_after"]["findings"]} == {
        "projection.changed",
        "chain.gap",
    }
    fired = {rule for rule, count in summary["alerts"].items() if count}
    assert fired == {plan.id for plan in load_plans()}
