"""Many threads and asyncio tasks in one process."""

from __future__ import annotations

from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.ground import Ground

RECORDS = 100_000


def mixed(ground: Ground) -> Outcome:
    """64 threads and 64 asyncio tasks emit until the count is reached, then the process ends by itself."""
    process = ground.workload(
        *("--threads", 64, "--tasks", 64, "--durable-every", 20, "--count", ground.scaled(RECORDS))
    )
    took = ground.notebook.wait_for(ground.scaled(RECORDS), 600)
    code = process.finish()
    ground.drain()
    outcome = ground.judge(
        emitted=ground.notebook.count(),
        records_per_second=round(ground.notebook.count() / took),
        calls_without_record=ground.notebook.lost(),
    )
    outcome.require(code == 0, f"expected exit code 0, found {code}: {process.tail()}")
    outcome.require(not ground.notebook.lost(), f"expected no lost call, found {ground.notebook.lost()}")
    return outcome


CELLS = [
    Cell(
        "threads-asyncio",
        "64 threads and 64 asyncio tasks emit 100,000 records, one in twenty durable, into one chain.",
        mixed,
        records=RECORDS,
        minutes=1.5,
        group="threads",
    )
]
