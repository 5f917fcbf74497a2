"""The disk under the spool: writes cut short, damaged bytes, no space left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from tests.fault.matrix import stored
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.cells.processes import NOWHERE
from tests.fault.matrix.emitting import CellError, wait_for
from tests.fault.matrix.ground import Ground

from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.frames import HEADER_BYTES, Frame, frame, parse_frames

RECORDS = 20_000
_DISK = 96 << 20
_REFUSING = """\
version: 1
revisions:
  - {number: 1, date: 2026-11-25, changes: First version, reason: Nothing may happen unrecorded, sections: [4]}
rules:
  - name: predictions
    match: {kind: audit.ml.prediction}
    level: metadata
    guarantee: buffered
    on_failure: refuse
  - name: everything-else
    level: metadata
    guarantee: durable
    on_failure: refuse
"""


def torn(ground: Ground, garbage: int) -> Outcome:
    """The last write was cut short by the kill; what stands behind it is no frame."""
    segment = _killed_offline(ground)
    data = segment.read_bytes()
    frames = list(parse_frames(data))
    last = frames[-1]
    if _record_id(last) in ground.notebook.acknowledged():  # its call returned: tear the one after it
        unreturned = frame(last.sequence + 1, bytes(32), b"x" * 1000)
        data += unreturned[: len(unreturned) // 2]
    else:
        data = data[: (last.end + _begin(last)) // 2]
    segment.write_bytes(data + os.urandom(garbage))
    seconds = ground.drain()
    outcome = ground.judge(drain_seconds=round(seconds, 2), garbage_bytes=garbage)
    (closing,) = stored.sources(ground.elasticsearch, ground.service, "audit.stream.abandoned")
    outcome.notes["said"] = closing["event.reason"]
    outcome.require("process died" in closing["event.reason"], "expected the closing record to say why")
    return outcome


def corrupt(ground: Ground) -> Outcome:
    """One byte of a record in the middle of a dead spool is another one."""
    segment = _killed_offline(ground)
    data = bytearray(segment.read_bytes())
    frames = list(parse_frames(bytes(data)))
    victim = frames[len(frames) // 2]
    data[victim.end - len(victim.payload) // 2] ^= 0x40
    segment.write_bytes(data)
    ground.drain()
    kept = [str(path.name) for path in layout.quarantine_folder(segment.parent).glob("*.damaged")]
    outcome = ground.judge(patient=False, damaged_sequence=victim.sequence, kept=kept)
    outcome.expected_lost = 1
    found = ground.look_up(set())
    named = [one for one in ground.verify().findings if one.severity != "information"]
    outcome.expected_findings = ("chain.gap",)
    outcome.expectation = (
        "exactly the damaged record is lost, kept in quarantine, and named by verify; the rest arrives"
    )
    outcome.require(_record_id(victim) not in found.records, "expected the damaged record not to be stored")
    outcome.require(len(kept) == 1, f"expected the damaged bytes to be kept, found {kept}")
    outcome.require(
        len(named) == 1 and named[0].sequence <= victim.sequence <= max(named[0].sequence, named[0].through),
        f"expected verify to name record {victim.sequence}, found {[one.text for one in named]}",
    )
    return outcome


def full(ground: Ground, refuse: bool) -> Outcome:
    """Another program fills the spool's disk for a while; the audited process goes on all the time."""
    count = ground.scaled(RECORDS)
    policy = ground.folder / "policy.yaml"
    policy.write_text(_REFUSING)
    more = {"MLAUDIT_POLICY": str(policy)} if refuse else {}
    with _small_disk(ground, _DISK) as disk:
        process = ground.workload("--durable-every", 20, "--rate", 4000, env=ground.environment(**more))
        ground.notebook.wait_for(count // 2)
        if ground.notebook.lost() or ground.notebook.refused():
            raise CellError(f"expected no call without record yet, found some: {process.tail()}")
        turned_away = ground.notebook.refused if refuse else ground.notebook.lost
        with _filled(disk):
            _wait_until(lambda: turned_away() >= max(20, count // 20))
        ground.notebook.wait_for(ground.notebook.count() + count // 2 + count // 10)
        process.terminate()
        ground.drain(**more)
        return _judge_full(ground)


def full_by_itself(ground: Ground) -> Outcome:
    """The collector is away until the spool has filled its small disk, and comes back."""
    count = ground.scaled(RECORDS)
    # Room for two segments, so that a delivered one can go; larger records on trial runs fill it all the same.
    pad = min(30_000, round(2000 / ground.scale) - 2000)
    with _small_disk(ground, _DISK // 4):
        process = ground.workload("--durable-every", 20, "--rate", 4000, "--pad", pad)
        ground.notebook.wait_for(count // 10)
        ground.stack.kill_collector()
        try:
            _wait_until(lambda: ground.notebook.lost() >= max(20, count // 20))
        finally:
            ground.stack.restart_collector()
        before = len(ground.notebook.acknowledged())
        _wait_until(lambda: len(ground.notebook.acknowledged()) >= max(count, before + count // 10), 120)
        process.terminate()
        ground.drain()
        return _judge_full(ground)


def _judge_full(ground: Ground) -> Outcome:
    calls, lost, refused = ground.notebook.count(), ground.notebook.lost(), ground.notebook.refused()
    outcome = ground.judge(emitted=calls, calls_lost=lost, calls_refused=refused)
    told = sum(
        int(one["audit.lost.count"])
        for one in stored.sources(ground.elasticsearch, ground.service, "audit.pipeline.failure")
        if "audit.lost.count" in one
    )
    outcome.notes["told_in_records"] = told
    outcome.expectation = "lost 0, duplicates 0, verify holds; emitted = stored + told as lost or refused"
    outcome.require(told == lost + refused, f"expected {lost + refused} calls told as lost, found {told}")
    # SIGTERM may come between the record of a call and its return.
    unreturned = outcome.stored + outcome.lost - outcome.acknowledged
    outcome.emitted = calls + unreturned
    outcome.require(
        unreturned in (0, 1) and outcome.emitted == outcome.stored + told,
        f"expected {outcome.emitted} = stored {outcome.stored} + told {told}, and at most one unreturned call",
    )
    outcome.require(lost + refused > 0, "expected the full disk to cost some calls, found none")
    return outcome


def _killed_offline(ground: Ground) -> Path:
    """Kills a script whose records all are in the spool; the newest segment with a frame in it."""
    process = ground.workload("--durable-every", 20, env=ground.environment(MLAUDIT_ENDPOINT=NOWHERE))
    ground.notebook.wait_for(ground.scaled(RECORDS))
    process.kill()
    (stream,) = ground.streams()
    return [path for path in layout.segments(stream) if path.stat().st_size > HEADER_BYTES][-1]


def _record_id(of: Frame) -> str:
    record: dict[str, str] = orjson.loads(LogRecord.FromString(of.payload).body.string_value)
    return record["audit.record.id"]


def _begin(of: Frame) -> int:
    return of.end - len(of.payload) - HEADER_BYTES


def _wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    wait_for(condition, "the full disk to be noticed, or to be over", seconds, pause=0.1)


@contextlib.contextmanager
def _small_disk(ground: Ground, size: int) -> Iterator[Path]:
    """A file system of so many bytes under the cell's spool."""
    disk = ground.folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CellError(f"expected to mount a small file system (needs root), found: {done.stderr.strip()}")
    try:
        ground.spool = disk / "spool"
        yield disk
    finally:
        ground.end()
        subprocess.run(["umount", "-l", str(disk)], check=False)


@contextlib.contextmanager
def _filled(disk: Path) -> Iterator[None]:
    """Takes every byte that is or becomes free on the disk."""
    over = threading.Event()

    def fill() -> None:
        with (disk / "filler").open("wb", buffering=0) as file:
            while not over.is_set():
                for block in (b"x" * 65536, b"x" * 4096):
                    with contextlib.suppress(OSError):
                        while not over.is_set():
                            file.write(block)
                over.wait(0.002)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        (disk / "filler").unlink()


CELLS = [
    Cell(
        "torn-write",
        "The last write of a killed script is cut in the middle of a record whose call had not returned.",
        partial(torn, garbage=0),
        group="disk",
    ),
    Cell(
        "torn-write-garbage",
        "The same, with 4 KiB of garbage behind it.",
        partial(torn, garbage=4096),
        group="disk",
    ),
    Cell(
        "corrupt-middle",
        "A bit of one record in the middle of a dead spool is flipped.",
        corrupt,
        group="disk",
    ),
    Cell(
        "disk-full-continue",
        "Another program fills the spool's disk for a while; the policy says `on_failure: continue`.",
        partial(full, refuse=False),
        group="disk",
    ),
    Cell(
        "disk-full-refuse",
        "The same with `on_failure: refuse`.",
        partial(full, refuse=True),
        group="disk",
    ),
    Cell(
        "disk-full-collector-away",
        "The collector is away until the spool has filled its small disk, and comes back.",
        full_by_itself,
        group="disk",
    ),
]
