"""Audited processes that end in every way."""

from __future__ import annotations

from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.ground import Ground


def kill_script(ground: Ground) -> Outcome:
    """SIGKILL, then ``mlaudit spool drain``."""
    process = ground.workload("--durable-every", 20)
    ground.notebook.wait_for(ground.scaled(20_000))
    process.kill()
    left = len(ground.streams())
    seconds = ground.drain()
    return ground.judge(streams_left=left, drain_seconds=round(seconds, 2))


CELLS = [
    Cell(
        "kill-script",
        "A script that emits records, one in twenty durable, is killed with SIGKILL; `mlaudit spool drain` sends "
        "and closes what it left.",
        kill_script,
        group="processes",
    ),
]
