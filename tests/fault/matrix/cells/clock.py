"""A wall clock that jumps while records are written."""

from __future__ import annotations

import shutil
import struct
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from tests.fault.matrix import stored
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import CellError
from tests.fault.matrix.ground import Ground

RECORDS = 20_000
HOUR = 3600
_SOURCE = Path(__file__).parents[1] / "clock.c"


def jump(ground: Ground, seconds: int) -> Outcome:
    """The clock jumps when half of the records are written; the other half follows."""
    library = _built(ground.folder)
    clock = ground.folder / "clock"
    clock.write_bytes(struct.pack("=q", 0))
    env = ground.environment(LD_PRELOAD=str(library), CLOCK_FILE=str(clock))
    count = ground.scaled(RECORDS)
    process = ground.workload("--durable-every", 20, env=env)
    ground.notebook.wait_for(count // 2)
    with clock.open("r+b") as file:  # in place: the process has it mapped
        file.write(struct.pack("=q", seconds))
    ground.notebook.wait_for(count)
    process.terminate()
    ground.drain()
    outcome = ground.judge(jump_seconds=seconds)
    begun, ended = (
        {one["audit.sequence.stream_id"]: one["@timestamp"] for one in _of(ground, kind)}
        for kind in ("audit.stream.started", "audit.stream.ended")
    )
    dates = [(begun[stream], end) for stream, end in ended.items()]
    outcome.require(
        any((end < begin) == (seconds < 0) for begin, end in dates),
        f"expected a start and an end dated as the clock was, found {dates}",
    )
    return outcome


def _of(ground: Ground, kind: str) -> list[dict[str, Any]]:
    return stored.sources(ground.elasticsearch, ground.service, kind)


def _built(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CellError("expected a C compiler (cc) to build the clock that jumps, found none; install gcc")
    library = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


CELLS = [
    Cell(
        f"clock-{name}",
        f"The wall clock of an emitting process jumps {name} by an hour in the middle.",
        partial(jump, seconds=seconds),
        group="clock",
    )
    for name, seconds in (("back", -HOUR), ("forward", HOUR))
]
