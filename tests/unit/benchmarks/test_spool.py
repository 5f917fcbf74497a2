from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_store_is_measured_in_every_way(tmp_path: Path) -> None:
    """One round in small prints a row for each promise and a column for each store, and leaves nothing behind."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.spool",
        "--rounds",
        "1",
        "--seconds",
        "0.005",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for expected in ("segments", "LMDB", "SQLite WAL", "handed over", "groups of 16", "groups of 256"):
        assert expected in done.stdout
    assert list(tmp_path.iterdir()) == []
