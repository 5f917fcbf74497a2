"""``make fuzz``: every target for a while, with the results in build/fuzz/results.json.

With atheris the runs are guided by coverage; without it (it has wheels for Linux and macOS alone) hypothesis makes the
inputs up, and the results say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SEEDS = Path(__file__).parent / "corpus"
_LONGEST = 2000
_STATS = {
    "runs": "number_of_executed_units",
    "executions_per_second": "average_exec_per_sec",
    "new_corpus_entries": "new_units_added",
}


def main() -> int:
    """Runs the targets; returns 1 when one of them broke."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", default="", help="names of targets, with commas between them")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz" / "results.json")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(TARGETS)
    guided = importlib.util.find_spec("atheris") is not None
    started, moment = datetime.now(UTC), time.monotonic()
    rows = [_row(name, given.seconds, given.out.parent, guided) for name in names]
    results = {
        "command": f"python -m tests.fuzz --seconds {given.seconds}"
        + (f" --only {given.only}" if given.only else ""),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - moment, 1),
        "commit": _commit(),
        "machine": {
            "system": platform.system(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        },
        "engine": "atheris" if guided else "random inputs, not guided: atheris is not installed",
        "targets": rows,
        "ok": not any(row["crashes"] for row in rows),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"{given.out}: {'no crashes' if results['ok'] else 'CRASHES, see the files named there'}")
    return 0 if results["ok"] else 1


def _row(name: str, seconds: int, out: Path, guided: bool) -> dict[str, Any]:
    print(f"{name}: {seconds} s …", flush=True)
    row = (_guided if guided else _unguided)(name, seconds, out / "crashes")
    print(
        f"  {row['runs']} runs, {row['executions_per_second']}/s, {len(row['crashes'])} crashes", flush=True
    )
    return row


def _guided(name: str, seconds: int, crashes: Path) -> dict[str, Any]:
    corpus = crashes.parent / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    before = set(crashes.glob(f"{name}-*"))
    log = crashes.parent / f"{name}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        code = subprocess.run(
            [
                sys.executable, "-m", "tests.fuzz.guided", name, f"-max_total_time={seconds}",
                f"-artifact_prefix={crashes}/{name}-",
                f"-max_len={_LONGEST}", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1",
                "-verbosity=1", str(corpus), str(SEEDS / name),
            ],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=seconds + 300,
        ).returncode  # fmt: skip
    text = log.read_text(encoding="utf-8", errors="replace")
    found = [
        str(path.relative_to(crashes.parent)) for path in sorted(set(crashes.glob(f"{name}-*")) - before)
    ]
    if code and not found:
        found = [f"the fuzzer ended with code {code}; see {log.name}"]
    numbers = {key: _stat(text, stat) for key, stat in _STATS.items()}
    return {"name": name, **numbers, "seconds": round(time.monotonic() - started, 1), "crashes": found}


def _stat(text: str, name: str) -> int:
    found = re.search(rf"stat::{name}:\s+(\d+)", text)
    return int(found[1]) if found else 0


def _unguided(name: str, seconds: int, crashes: Path) -> dict[str, Any]:
    """What is left without atheris: the corpus, then random bytes for as long."""
    random, found, runs = Random(), [], 0
    seeds = [path.read_bytes() for path in sorted((SEEDS / name).glob("*.bin"))]
    started = time.monotonic()
    while time.monotonic() - started < seconds and not found:
        data = seeds[runs] if runs < len(seeds) else random.randbytes(random.randrange(_LONGEST))
        runs += 1
        try:
            TARGETS[name](data)
        except Exception:  # noqa: BLE001 - any is a crash
            crashes.mkdir(parents=True, exist_ok=True)
            path = crashes / f"{name}-crash-{sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            found.append(str(path.relative_to(crashes.parent)))
            traceback.print_exc()
    took = time.monotonic() - started
    return {
        "name": name, "runs": runs, "executions_per_second": int(runs / took), "new_corpus_entries": 0,
        "seconds": round(took, 1), "crashes": found,
    }  # fmt: skip


def _commit() -> str:
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
