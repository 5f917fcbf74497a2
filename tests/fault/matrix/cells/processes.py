"""Scripts, training runs and child processes that end in every way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.fault.matrix import stored
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import Audited, wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.service import holder

RECORDS = 20_000
NOWHERE = "http://127.0.0.1:9/v1/logs"
_STARTED = "audit.stream.started"


def script(ground: Ground, end: Callable[[Audited], object], endpoint: str = "") -> Outcome:
    """A script is ended while it emits, then ``mlaudit spool drain``."""
    env = ground.environment(**({"MLAUDIT_ENDPOINT": endpoint} if endpoint else {}))
    process = ground.workload("--durable-every", 20, env=env)
    took = ground.notebook.wait_for(ground.scaled(RECORDS))
    end(process)
    left = len(ground.streams())
    seconds = ground.drain()
    count = ground.notebook.count()
    return ground.judge(
        streams_left=left, drain_seconds=round(seconds, 2), records_per_second=round(count / took)
    )


def training(ground: Ground, end: Callable[[Audited], object]) -> Outcome:
    """A training run is ended; the next one adopts what it left."""
    process = _program(ground, "train", 0)
    ground.notebook.wait_for(ground.scaled(RECORDS))
    end(process)
    dead = ground.streams()
    again = _program(ground, "train", 0, 200)
    adopted = ground.wait_for_adoption(dead) if dead else 0.0
    again.terminate()
    ground.drain()
    fits = _beside(ground, "fits").stat().st_size
    outcome = ground.judge(adoption_seconds=round(adopted, 2), fits_returned=fits)
    found = stored.look_up(ground.elasticsearch, ground.service).kinds["audit.ml.training.completed"]
    outcome.require(found >= fits, f"expected the records of {fits} training runs, found {found}")
    return outcome


def child(ground: Ground, method: str, number: int) -> Outcome:
    """A multiprocessing child is ended; its parent goes on and adopts its stream."""
    parent = _program(ground, "parent", 0, method)
    wait_for(lambda: _beside(ground, "child").exists(), "the child to start")
    wait_for(lambda: _beside(ground, "child").read_text().endswith("\n"), "the child's id")
    pid = int(_beside(ground, "child").read_text())
    wait_for(lambda: pid in map(holder, ground.streams()), "the child's stream")
    (stream,) = [one for one in ground.streams() if holder(one) == pid]
    ground.notebook.wait_for(ground.scaled(RECORDS))
    os.kill(pid, number)
    adopted = ground.wait_for_adoption([stream])
    _beside(ground, "over").touch()
    parent.finish()
    ground.drain()
    outcome = ground.judge(adoption_seconds=round(adopted, 2))
    _require_parent(ground, outcome, linked=1 if method == "fork" else 0)
    return outcome


def fork_after_start(ground: Ground) -> Outcome:
    """A process forks in the middle of its trail; both go on."""
    _program(ground, "fork", ground.scaled(3 * RECORDS // 2), "exit").finish()
    ground.drain()
    outcome = ground.judge()
    _require_parent(ground, outcome, linked=1)
    outcome.require(outcome.notes["streams"] == 2, f"expected 2 streams, found {outcome.notes['streams']}")
    return outcome


def _require_parent(ground: Ground, outcome: Outcome, linked: int) -> None:
    starts = stored.sources(ground.elasticsearch, ground.service, _STARTED)
    streams = {start["audit.sequence.stream_id"] for start in starts}
    # A record that a child makes while SIGTERM ends it begins one more stream with the same parent.
    parents = {start["audit.stream.parent.id"] for start in starts if "audit.stream.parent.id" in start}
    outcome.require(
        len(parents) == linked and parents <= streams,
        f"expected {linked} streams that children name as their parent's, found {len(parents)}",
    )


def _program(ground: Ground, *arguments: str | int) -> Audited:
    name, count, *rest = map(str, arguments)
    command = [sys.executable, "-m", "tests.fault.matrix.programs", name, str(ground.notebook.path), count]
    return ground.start([*command, *rest])


def _beside(ground: Ground, suffix: str) -> Path:
    return ground.notebook.path.with_name(f"{ground.notebook.path.name}.{suffix}")


CELLS = [
    Cell(
        "kill-script",
        "A script that emits records, one in twenty durable, is killed with SIGKILL; `mlaudit spool drain` sends "
        "and closes what it left.",
        partial(script, end=Audited.kill),
        group="processes",
    ),
    Cell(
        "kill-script-offline",
        "The same with the collector out of reach, so that everything is in the spool when the script is killed.",
        partial(script, end=Audited.kill, endpoint=NOWHERE),
        group="processes",
    ),
    Cell(
        "sigterm-script",
        "The script gets SIGTERM.",
        partial(script, end=Audited.terminate),
        group="processes",
    ),
    Cell(
        "kill-training",
        "A training script (a fit for every fifty records) is killed with SIGKILL and started again.",
        partial(training, end=Audited.kill),
        group="processes",
    ),
    Cell(
        "sigterm-training",
        "The training script gets SIGTERM and is started again.",
        partial(training, end=Audited.terminate),
        group="processes",
    ),
    *(
        Cell(
            f"{name}-child-{method}",
            f"A multiprocessing child ({method}) gets {number.name}; its parent goes on and adopts its stream.",
            partial(child, method=method, number=number),
            minutes=0.8,
            group="processes",
        )
        for name, number in (("kill", signal.SIGKILL), ("sigterm", signal.SIGTERM))
        for method in ("fork", "spawn")
    ),
    Cell(
        "fork-after-start",
        "A process forks in the middle of its trail; parent and child go on, each with a chain of its own.",
        fork_after_start,
        group="processes",
    ),
]
