from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TINY = ("--records", "50", "--pairs", "1", "--rounds", "1", "--seconds", "0.05", "--routes", "noop")


def run(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the quick benchmark from the command line, as ``make bench-quick`` does."""
    command = [sys.executable, "-m", "benchmarks.quick", "--output", str(output), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLAUDIT_")}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=150
    )


def test_tiny_run_writes_a_valid_results_file(tmp_path: Path) -> None:
    """However small the run, its results name machine, versions, settings, raw rounds, medians, ratios and goals."""
    output = tmp_path / "bench" / "results.json"
    done = run(output, *TINY, "--variants", "plain", "audited")
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads(output.read_text())
    assert results["format"] == 1
    assert results["machine"]["cores"] >= 1
    assert results["versions"]["opentelemetry-sdk"] != "absent"

    cost = results["record_cost"]
    assert cost["settings"]["records_per_round"] == 50
    (pair,) = cost["rounds"]
    ratio = pair["mlaudit"]["cpu_us_per_record"] / pair["sdk"]["cpu_us_per_record"]
    assert cost["ratio"] == {"median": ratio, "min": ratio, "max": ratio}

    noop = results["service_load"]["routes"]["noop"]
    (single,) = noop["rounds"]
    assert set(single) == set(noop["medians"]) == {"plain", "audited"}
    assert single["audited"]["records"] == single["audited"]["requests"] > 0
    assert set(noop["ratios"]) == {"audited/plain"}

    assert [goal["wanted"] for goal in results["goals"]] == [0.33, 0.8]
    for goal in results["goals"]:
        median = goal["found"]["median"]
        assert goal["met"] == (median <= 0.33 if goal["relation"] == "at most" else median >= 0.8)
    assert [path.name for path in output.parent.iterdir()] == ["results.json"]


def test_unknown_variant_is_refused(tmp_path: Path) -> None:
    """A variant that does not exist is an error of the command line, not an empty measurement."""
    done = run(tmp_path / "results.json", "--variants", "faster")
    assert done.returncode == 2
    assert "faster" in done.stderr
    assert not (tmp_path / "results.json").exists()
