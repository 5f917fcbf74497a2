"""``python -m tests.tamper``: plants a thousand tampers in a real trail, one at a time, and judges the reports."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from elasticsearch import Elasticsearch
from tests.tamper import kinds
from tests.tamper.cross_check import CrossCheck
from tests.tamper.file_stores import Archive, Spool
from tests.tamper.judge import Row, by_kind, draw, judged, rows, scene_of, shown, verify
from tests.tamper.scene import Scene
from tests.tamper.stores import Documents, Store
from tests.tamper.trail import Trail, make_trail

from mlaudit.seal.keys import FileSigner
from mlaudit.stack import Stack

SEED = 20261125
STRANGER = FileSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))), "stranger")


def main() -> int:
    """Runs it; 0 when all requirements hold."""
    arguments = _arguments()
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    folder = Path(tempfile.mkdtemp(prefix="mlaudit-tamper-"))
    folder.chmod(0o755)  # Elasticsearch runs as another user
    try:
        with Stack(folder, archive=folder / "collected.jsonl", quick=True) as stack:
            print(f"seed {arguments.seed}; writing a trail", flush=True)
            with Elasticsearch(
                stack.elasticsearch_url,
                basic_auth=stack.elasticsearch_auth,
                ca_certs=str(stack.ca_file) if stack.ca_file else None,
            ) as client:
                trail = make_trail(stack, client, folder / "trail", arguments.records)
                result = run(trail, arguments.count, arguments.seed, arguments.every)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "command": f"python -m tests.tamper --count {arguments.count} --seed {arguments.seed}",
        "started": started,
        "seconds": round(time.monotonic() - began, 1),
        "commit": _commit(),
        "machine": {"cpus": _cpus(), "python": platform.python_version(), "system": platform.platform()},
        **result,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'ok' if result['ok'] else 'NOT OK'} after {result['seconds']} s; {arguments.out}")
    return 0 if result["ok"] else 1


def run(trail: Trail, count: int, seed: int, every: int) -> dict[str, Any]:
    """Verifies the untouched trail, plants the tampers, and verifies it untouched once more."""
    documents = Documents(trail.client, trail.source(), trail.streams)
    stores: list[Store] = [
        documents,
        Archive(trail.archive, trail.streams),
        Spool(trail.spool, trail.streams),
    ]
    before = fingerprint(documents)
    print(f"{trail.records} records in {len(trail.streams)} streams", flush=True)
    untouched = {store.name: [shown(f) for f in verify(store, trail.keys).findings] for store in stores}
    scenes = {store.name: scene_of(store, seed, trail.signer, STRANGER) for store in stores}
    second = CrossCheck(trail.keys, trail.signer, every)
    untouched["independent"] = [f for store in stores[:2] for f in second.faults(store, None)]
    shares = {
        "elasticsearch": count - 2 * (count * 3 // 10),
        "archive": count * 3 // 10,
        "spool": count * 3 // 10,
    }
    planted: list[Row] = []
    for row in rows(scenes, shares, trail.keys, second):
        planted.append(row)
        _tell(row)
    limits = list(_limits(scenes, trail))
    untouched["afterwards"] = [shown(finding) for finding in verify(documents, trail.keys).findings]
    same = fingerprint(documents) == before
    right = sum(row.named_rightly for row in planted)
    disagreed = [row.n for row in planted if row.independent is False]
    for kind, counts in by_kind(planted).items():
        print(f"{counts['named_rightly']:4} of {counts['planted']:4}  {kind}")
    ok = right == len(planted) == count and not any(untouched.values()) and same and not disagreed
    return {
        "seed": seed,
        "scope": "each tamper is planted alone, and the whole trail of its store is verified",
        "records": trail.records,
        "streams": len(trail.streams),
        "untouched": untouched,
        "restored": same,
        "found": right,
        "planted": len(planted),
        "kinds": by_kind(planted),
        "independent": {
            "checked": sum(row.independent is not None for row in planted),
            "disagreed": disagreed,
        },
        "limits": [asdict(row) for row in limits],
        "tampers": [asdict(row) for row in planted],
        "ok": ok,
    }


def fingerprint(documents: Documents) -> dict[str, str]:
    """Every document by its id."""
    return {entry.raw["_id"]: json.dumps(entry.raw["_source"], sort_keys=True) for entry in documents.read()}


def _limits(scenes: dict[str, Scene], trail: Trail) -> list[Row]:
    """Tampers that cannot be detected: planted so that the limit is measured."""
    found = []
    for kind, make in sorted(kinds.LIMITS.items()):
        for name, scene in scenes.items():
            if name != "spool":
                for _ in range(3):
                    tamper = draw(scene, make)
                    if tamper is not None:
                        found.append(judged(scene, len(found) + 1, kind, tamper, trail.keys))
    return found


def _tell(row: Row) -> None:
    if not row.named_rightly:
        print(f"{row.n}: {row.kind} in {row.where}: expected {row.expected}, found {row.found}", flush=True)
    if row.independent is False:
        print(f"{row.n}: {row.kind} in {row.where}: the independent verifier disagrees", flush=True)
    if row.n % 100 == 0:
        print(f"{row.n} planted", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.tamper", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many tampers")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--records", type=int, default=300, help="events in each of the seven streams")
    parser.add_argument("--every", type=int, default=5, help="the independent verifier looks at every n-th")
    parser.add_argument("--out", type=Path, default=Path("build/tamper/results.json"))
    return parser.parse_args()


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _cpus() -> int:
    import os

    return os.cpu_count() or 0


if __name__ == "__main__":
    sys.exit(main())
