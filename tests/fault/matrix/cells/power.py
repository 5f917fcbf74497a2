"""The machine loses power: what no fsync covered is gone (see ``tests.fault.powercut``)."""

from __future__ import annotations

import sys
import uuid

from tests.fault.matrix import stored
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import CellError
from tests.fault.matrix.ground import Ground

from mlaudit.deliver.spool import layout

RECORDS = 20_000
DURABLE_EVERY = 20
KILLED = 137
PROMISED = 0.05
# How late the thread that syncs may get to run on a machine that is busy with other things.
LATE = 0.45


def power_failure(ground: Ground) -> Outcome:
    """Power goes while a script emits and sends; the next start finds what the disk had confirmed, and torn rest."""
    times = ground.folder / "times"
    into, trigger = ground.folder / "after", ground.folder / "trigger"
    ground.spool.mkdir(parents=True)
    into.mkdir()
    ground.start(
        [
            *(sys.executable, "-m", "tests.fault.powercut", str(ground.spool), str(into), str(trigger)),
            *("-m", "tests.fault.matrix.workload", "--acknowledge", str(ground.notebook.path)),
            *("--durable-every", str(DURABLE_EVERY), "--rate", "2000", "--times", str(times)),
        ]
    )
    ground.notebook.wait_for(ground.scaled(RECORDS) + ground.scaled(RECORDS) // 10)
    trigger.touch()
    if (code := ground.last.finish()) != KILLED:
        raise CellError(f"expected exit code {KILLED}, found {code}: {ground.last.tail()}")
    ground.spool.rename(ground.folder / "before")
    into.rename(ground.spool)
    for stream in ground.streams():  # a machine that was off has a new boot id
        layout.lock_file(stream).write_text(str(uuid.uuid4()))
    ground.drain()
    outcome = ground.judge(patient=False)
    return _within_promise(ground, outcome, [int(line) for line in times.read_text().split()])


def _within_promise(ground: Ground, outcome: Outcome, times: list[int]) -> Outcome:
    """Lost are buffered records of the last 50 ms alone, and the trail says where it was cut."""
    there = ground.look_up(set()).records
    lines = ground.notebook.lines()
    gone = [number for number, line in enumerate(lines, 1) if line not in there]
    ages = [(times[len(lines) - 1] - times[number - 1]) / 1e9 for number in gone]
    outcome.notes |= {"oldest_lost_ms": round(1000 * max(ages, default=0.0), 1)}
    outcome.require(
        not [number for number in gone if number % DURABLE_EVERY == 0], "expected no lost durable record"
    )
    outcome.require(
        max(ages, default=0.0) < PROMISED + LATE,
        f"expected only the last {PROMISED + LATE:.2f} s to be lost, found {max(ages, default=0.0):.3f} s",
    )
    closing = stored.sources(ground.elasticsearch, ground.service, "audit.stream.abandoned")
    outcome.require(
        len(closing) == 1 and closing[0].get("audit.stream.restarted") is True,
        "expected one closing record that says that the machine was restarted",
    )
    told = int(closing[0].get("audit.lost.count", 0)) if closing else 0
    outcome.notes["told_lost"] = told
    if "chain.gap" in outcome.verify:  # a later write survived an earlier one
        outcome.expected_findings = ("chain.gap",)
        outcome.require(told > 0, "expected the closing record to count what is missing in the middle")
    outcome.notes["said"] = closing[0].get("event.reason", "") if closing else ""
    outcome.expected_lost = len(gone)
    outcome.expectation = (
        "lost are at most buffered records of the last 50 ms, no durable one; "
        "the closing record says that the machine was restarted"
    )
    return outcome


CELLS = [
    Cell(
        "power-failure",
        "Power fails: every write of the spool that no fsync had covered is dropped, torn or reordered. This alone "
        "may cost buffered records of the last 50 ms.",
        power_failure,
        minutes=0.6,
        group="power",
    )
]
