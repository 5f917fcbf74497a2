"""CPU per record, from emit to acknowledged, against the OpenTelemetry SDK's own batch path.

Two emitting processes on one core alternate, the receiver is a third on the other core, and its CPU is not
counted. A round in which the receiver did not get every record is invalid, on either side.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.attributes import COUNT
from benchmarks.emitter import KIND
from benchmarks.figures import median_of, spread
from benchmarks.processes import Child, ChildError, child, cores

WAYS = ("mlaudit", "sdk")
GOAL = 0.33
_DEFAULT_QUEUE = 2048


def measure(
    folder: Path, receiver: Child, port: int, *, records: int, pairs: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Runs ``pairs`` rounds of ``records`` for each way and returns the cost of a record.

    Raises:
        ChildError: a process failed, or the receiver did not get every record.
    """
    endpoint = f"http://127.0.0.1:{port}/v1/logs"
    mine, _ = cores()
    environment = {
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_SERVICE_NAME": "benchmark",
        "MLAUDIT_STATE_DIR": str(folder / "emitter"),
        "MLAUDIT_ENDPOINT": endpoint,
    }
    queue = max(_DEFAULT_QUEUE, records + 1)
    arguments = (endpoint, str(queue))
    rounds: list[dict[str, Any]] = []
    with (
        child(
            "emitter",
            "mlaudit",
            *arguments,
            core=mine,
            log=folder / "emitter-mlaudit.log",
            environment=environment,
        ) as audit,
        child("emitter", "sdk", *arguments, core=mine, log=folder / "emitter-sdk.log") as sdk,
    ):
        emitters = dict(zip(WAYS, (audit, sdk), strict=True))
        for way in WAYS:  # warms up
            _one(way, emitters[way], receiver, max(1, records // 5))
        for number in range(pairs):
            tell(f"CPU per record, pair {number + 1} of {pairs}")
            # ABBA…: neither way is always the first.
            order = WAYS if number % 2 == 0 else WAYS[::-1]
            found = {way: _one(way, emitters[way], receiver, records) for way in order}
            ratio = found["mlaudit"]["cpu_us_per_record"] / found["sdk"]["cpu_us_per_record"]
            rounds.append({**found, "ratio": ratio})
    return {
        "settings": {
            "records_per_round": records,
            "pairs": pairs,
            "attributes": COUNT,
            "sdk_queue": queue,
            "sdk_batch": "the SDK's defaults, then force_flush; nothing dropped (counted at the receiver)",
            "mlaudit": "built-in policy, redaction, seal, spool on disk, sender; every record acknowledged",
            "core": mine,
        },
        "rounds": rounds,
        "medians": {
            way: median_of([found[way] for found in rounds], ("cpu_us_per_record", "acknowledged_seconds"))
            for way in WAYS
        },
        "ratio": spread(found["ratio"] for found in rounds),
    }


def _one(way: str, emitter: Child, receiver: Child, records: int) -> dict[str, Any]:
    before = receiver.ask({}).get(KIND, 0)
    found = emitter.ask({"records": records})
    received = receiver.ask({}).get(KIND, 0) - before
    if received != records:
        raise ChildError(f"{way}: expected {records} records at the receiver, found {received}")
    return found
