"""The cost of an acknowledgement in each topology: ``python -m benchmarks.topologies``.

Latency: from the return of ``mlaudit.record`` until the record left the spool as acknowledged, one record at a time;
the sender's batching delay (0.1 s) is part of it. Throughput: acknowledged records per second from a full spool.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.processes import ROOT

ROUNDS = 100
RECORDS = 30_000
TOPOLOGIES = ("queued", "direct")
_PAD = "x" * 300


def measure(rounds: int, records: int) -> dict[str, Any]:
    """Measures, in an audited process, the collector that it sends to."""
    import mlaudit
    from mlaudit.pipeline import current

    def emit() -> None:
        mlaudit.record(
            "audit.ml.prediction", target=("model", "fraud@3"), fields={"ml.model.name": "fraud"}, pad=_PAD
        )

    def wait() -> None:
        while pipeline.tally.totals(adopted=False).waiting:
            time.sleep(0.001)

    emit()
    pipeline = current.pipeline()
    assert pipeline is not None
    wait()
    latencies = []
    for _ in range(rounds):
        began = time.perf_counter()
        emit()
        wait()
        latencies.append(time.perf_counter() - began)
        time.sleep(0.05)
    before = pipeline.tally.totals(adopted=False).requests
    began = time.perf_counter()
    for _ in range(records):
        emit()
    emitted = time.perf_counter() - began
    wait()
    took = time.perf_counter() - began
    latencies.sort()
    return {
        "latency_p50_ms": round(1000 * latencies[rounds // 2], 1),
        "latency_p95_ms": round(1000 * latencies[rounds * 95 // 100], 1),
        "latency_max_ms": round(1000 * latencies[-1], 1),
        "emitted_per_second": round(records / emitted),
        "acknowledged_per_second": round(records / took),
        "requests": pipeline.tally.totals(adopted=False).requests - before,
    }


def run(topology: str, rounds: int, records: int) -> dict[str, Any]:
    """Starts a stack of this topology and measures from a separate process."""
    from mlaudit.stack import Stack

    folder = Path(tempfile.mkdtemp(prefix="mlaudit-topology-"))
    folder.chmod(0o755)
    try:
        with Stack(folder / "stack", topology=topology) as stack:
            env = {
                **{name: value for name, value in os.environ.items() if not name.startswith("MLAUDIT_")},
                "MLAUDIT_ENABLED": "true",
                "MLAUDIT_SERVICE_NAME": "topologies",
                "MLAUDIT_STATE_DIR": str(folder / "state"),
                "MLAUDIT_ENDPOINT": f"{stack.otlp_endpoint}/v1/logs",
                "MLAUDIT_TOKEN_FILE": str(stack.token_file),
                "MLAUDIT_OTEL": "off",
            }
            command = [sys.executable, "-m", "benchmarks.topologies", "--measure"]
            command += ["--rounds", str(rounds), "--records", str(records)]
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
            figures: dict[str, Any] = json.loads(done.stdout)
            return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topologies", description=__doc__)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--records", type=int, default=RECORDS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.rounds, arguments.records)))
        return
    figures = {name: run(name, arguments.rounds, arguments.records) for name in TOPOLOGIES}
    print(json.dumps({"machine": machine(), **figures}, indent=2))


if __name__ == "__main__":
    main()
