"""The queue of the collector: full, on a full disk, and destroyed."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import urllib3
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emission import RECORDS, emitting, waiting_bytes
from tests.fault.matrix.emitting import ROOT, Audited, wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.variation import enlarge, small_disk, varied_collector

from mlaudit.stack import Stack

_QUEUE_DISK = 48 << 20
_GARBAGE = b"\xde\xad\xbe\xef" * 4096


def queue_bounded(ground: Ground) -> Outcome:
    """Elasticsearch is down until the queue has reached its bound, a third of its disk; two kills meanwhile."""
    stack = ground.stack
    size = max(32 << 20, round(_QUEUE_DISK * min(1.0, ground.scale)))
    variables = {"MLAUDIT_QUEUE_DIR": str(ground.folder / "queue"), "MLAUDIT_QUEUE_BYTES": str(size // 3)}
    with small_disk(stack, ground.folder / "queue", size) as disk, varied_collector(stack, variables):
        emitter = _padded(ground)
        ground.notebook.wait_for(ground.scaled(4_000))
        stack.kill_elasticsearch()
        full = wait_for(lambda: _refused(ground) > 0, "the collector to refuse", 180)
        at = ground.notebook.count()
        for part in (1, 2):
            stack.kill_collector()
            stack.restart_collector()
            ground.notebook.wait_for(at + part * ground.scaled(3_000))
        waiting = waiting_bytes(ground.spool)
        used = sum(path.stat().st_blocks * 512 for path in disk.iterdir())
        stack.restart_elasticsearch()
        ground.notebook.wait_for(ground.scaled(RECORDS))
        emitter.terminate()
        drained = ground.drain(300)
        outcome = ground.judge(
            disk_bytes=size,
            queue_bound=size // 3,
            disk_used=used,
            seconds_until_full=round(full, 1),
            spool_bytes_waiting=waiting,
            drain_seconds=round(drained, 1),
        )
        wait_for(lambda: not ground.queue_size(), "an empty queue")
    outcome.require(waiting > 0, "expected records to wait in the spool, found none")
    outcome.require(used < size, f"expected the disk not to fill, found {used} of {size} bytes used")
    return outcome


def queue_disk_full(ground: Ground) -> Outcome:
    """Nothing bounds the queue but its disk: the collector refuses, is killed on the full disk and starts on it.

    A full queue's file cannot even delete what was sent, so the disk is enlarged at the end, as its owner would.
    """
    stack = ground.stack
    size = max(20 << 20, round(_QUEUE_DISK * min(1.0, ground.scale)))
    with (
        small_disk(stack, ground.folder / "queue", size) as disk,
        varied_collector(stack, {"MLAUDIT_QUEUE_DIR": str(disk)}),
    ):
        emitter = _padded(ground)
        ground.notebook.wait_for(ground.scaled(4_000))
        stack.kill_elasticsearch()
        full = wait_for(lambda: _refused(ground) > 0, "the collector to refuse", 180)
        refused = _refused(ground)
        at = ground.notebook.count()
        ground.notebook.wait_for(at + ground.scaled(6_000))
        waiting = waiting_bytes(ground.spool)
        stack.kill_collector()
        stack.restart_collector()
        stack.restart_elasticsearch()
        ground.notebook.wait_for(ground.scaled(RECORDS))
        emitter.terminate()
        enlarge(disk, 4 * size)
        ground.drain(300)
        missing, named = _look(ground)
        notes = {} if not missing else {"resend": _resend(ground)}
        outcome = ground.judge(
            disk_bytes=size,
            seconds_until_full=round(full, 1),
            records_refused_by_then=refused,
            spool_bytes_waiting=waiting,
            missing_before_resend=missing,
            verify_before_resend=named,
            **notes,
        )
    outcome.require(waiting > 0, "expected records to wait in the spool, found none")
    outcome.require(
        bool(missing) == bool(named), f"expected verify to name {missing} missing records, found {named}"
    )
    outcome.expectation = (
        "the collector refuses; what its queue drops on a full disk verify names, and after mlaudit resend lost 0, "
        "duplicates 0, verify holds"
    )
    return outcome


def queue_destroyed(ground: Ground) -> Outcome:
    """What only the collector's queue held is destroyed; ``mlaudit resend`` sends it again from the spool."""
    stack = ground.stack
    emitter = emitting(ground, 2500)
    ground.notebook.wait_for(ground.scaled(6_000))
    stack.kill_elasticsearch()
    ground.notebook.wait_for(ground.scaled(14_000))
    time.sleep(1)
    stack.kill_collector()
    destroyed = _destroy(stack.layout.collector / "queue")
    begins = _starts(stack)
    stack.restart_elasticsearch()
    ground.notebook.wait_for(ground.scaled(RECORDS))
    emitter.terminate()
    ground.drain()
    missing, named = _look(ground)
    resent = _resend(ground)
    outcome = ground.judge(
        destroyed_bytes=destroyed,
        collector_starts_by_itself=begins,
        missing_before_resend=missing,
        verify_before_resend=named,
        resend=resent,
    )
    outcome.require(missing > 0, "expected the destroyed queue to cost records, found none missing")
    outcome.require(bool(named), "expected verify to name what is missing, found that it holds")
    outcome.expectation = (
        "verify names what is missing; after mlaudit resend lost 0, duplicates 0, verify holds"
    )
    return outcome


def _padded(ground: Ground) -> Audited:
    """Larger records, so that a small disk is soon full."""
    most = ground.scaled(2 * RECORDS)
    return ground.workload("--durable-every", 20, "--rate", 2000, "--count", most, "--pad", 1000)


def _look(ground: Ground) -> tuple[int, list[str]]:
    """How many acknowledged records are missing once nothing moves any more, and what verify finds."""
    wanted = ground.notebook.acknowledged()
    missing = len(wanted - ground.look_up(wanted, seconds=60).records.keys())
    return missing, sorted({one.code for one in ground.verify().findings if one.severity == "finding"})


def _refused(ground: Ground) -> float:
    """Records that the collector did not take because its queue could not."""
    pattern = (
        r'^otelcol_exporter_enqueue_failed_log_records\S*\{[^}]*exporter="elasticsearch/audit"[^}]*\}\s+(\S+)'
    )
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
        try:
            text = pool.request("GET", ground.stack.metrics_url).data.decode()
        except urllib3.exceptions.HTTPError:
            return 0.0
    return sum(float(found) for found in re.findall(pattern, text, re.MULTILINE))


def _destroy(queue: Path) -> int:
    """Writes garbage over every page of the queue's files, as a broken disk would."""
    destroyed = 0
    for path in queue.iterdir():
        size = path.stat().st_size
        with path.open("rb+") as file:
            while file.tell() < size:
                file.write(_GARBAGE[: size - file.tell()])
        destroyed += size
    return destroyed


def _starts(stack: Stack) -> bool:
    """Starts the collector on a destroyed queue; by hand, without it, when it does not start."""
    from mlaudit.errors import StackError

    try:
        stack.restart_collector()
    except StackError:
        for path in (stack.layout.collector / "queue").iterdir():
            path.rename(path.with_suffix(".damaged"))
        stack.restart_collector()
        return False
    return True


def _resend(ground: Ground) -> str:
    user, password = ground.stack.reader_auth
    env = ground.environment(
        MLAUDIT_ES_USERNAME=user,
        MLAUDIT_ES_PASSWORD=password,
        MLAUDIT_ES_CA_FILE=str(ground.stack.ca_file or ""),
    )
    command = [
        sys.executable,
        "-m",
        "mlaudit.cli",
        "resend",
        "--elasticsearch",
        ground.stack.elasticsearch_url,
    ]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    return f"exit code {done.returncode}: {' '.join((done.stdout + done.stderr).split())[:400]}"


CELLS = [
    Cell(
        "collector-queue-full",
        "Elasticsearch is down until the collector's queue reaches its bound; it refuses, and is killed twice.",
        queue_bounded,
        minutes=2,
        group="collector",
    ),
    Cell(
        "collector-disk-full",
        "The disk of the collector's queue fills before its bound, the collector is killed on it, the disk enlarged; "
        "`mlaudit verify` names what that costs and `mlaudit resend` sends it again.",
        queue_disk_full,
        minutes=2,
        group="collector",
    ),
    Cell(
        "collector-queue-destroyed",
        "The collector is killed and its queue overwritten while Elasticsearch is down; `mlaudit verify` names what is "
        "missing and `mlaudit resend` sends it again.",
        queue_destroyed,
        minutes=2,
        group="collector",
    ),
]
