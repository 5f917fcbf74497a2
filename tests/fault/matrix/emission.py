"""What the cells of the collector and of its queue emit, and how much of it waits."""

from __future__ import annotations

from pathlib import Path

from tests.fault.matrix.emitting import Audited
from tests.fault.matrix.ground import Ground

RECORDS = 20_000


def emitting(ground: Ground, rate: int) -> Audited:
    """Emits under every fault, but no more than a slow machine can store again in time."""
    most = ground.scaled(3 * RECORDS // 2)
    return ground.workload("--durable-every", 20, "--rate", rate, "--count", most)


def waiting_bytes(spool: Path) -> int:
    """What waits in a spool, retained segments aside."""
    return sum(path.stat().st_size for path in spool.glob("*/*.seg") if path.parent.name != "retained")
