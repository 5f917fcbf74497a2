"""The collector that is killed, stopped, away, or loses its queue."""

from __future__ import annotations

import time

from tests.fault.matrix import service as services
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emission import RECORDS, emitting, waiting_bytes
from tests.fault.matrix.emitting import wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.variation import varied_collector

from mlaudit.stack import process

ABSENT_SECONDS = 600.0


def killed_twice(ground: Ground) -> Outcome:
    """SIGKILL under load, twice, with two seconds without a collector each time."""
    emitter = emitting(ground, 2000)
    for third in (1, 2):
        ground.notebook.wait_for(third * ground.scaled(RECORDS) // 3)
        ground.stack.kill_collector()
        time.sleep(2)
        ground.stack.restart_collector()
    ground.notebook.wait_for(ground.scaled(RECORDS))
    code = emitter.terminate()
    ground.drain()
    return ground.judge(exit_code=code)


def absent(ground: Ground) -> Outcome:
    """Ten minutes without a collector while the service answers as fast as it can; then it comes back."""
    stack, seconds = ground.stack, ABSENT_SECONDS * min(1.0, ground.scale)
    stack.kill_collector()
    service = services.start(ground, services.UVICORN, 1, MLAUDIT_SPOOL_MAX_BYTES="16GiB")
    with service.load() as load:
        began = time.monotonic()
        load.wait(1)
        time.sleep(seconds)
        load.stop()
        took = time.monotonic() - began
    answered, size = len(load.answered), waiting_bytes(ground.spool)
    began = time.monotonic()
    stack.restart_collector()
    drained = wait_for(lambda: ground.count() >= answered, "everything to arrive", 3600, pause=2)
    service.process.terminate()
    ground.drain()
    outcome = ground.judge(
        set(load.answered),
        by="requests",
        emitted=load.sent,
        absent_seconds=round(took, 1),
        requests_per_second=round(answered / took),
        spool_bytes=size,
        spool_bytes_per_request=round(size / max(1, answered)),
        drain_seconds=round(time.monotonic() - began, 1),
        drained_per_second=round(answered / max(0.1, drained)),
        seconds=600,
    )
    outcome.require(
        not load.refused, f"expected every request to be answered, found {len(load.refused)} refused"
    )
    return outcome


def service_stopped(ground: Ground) -> Outcome:
    """The service gets SIGTERM while the collector is away; what it left is sent when the collector is back."""
    service = services.start(ground, services.UVICORN, 1)
    with service.load() as load:
        load.wait(ground.scaled(RECORDS) // 2)
        ground.stack.kill_collector()
        load.wait(ground.scaled(RECORDS))
        began = time.monotonic()
        code = service.process.terminate()
        took = time.monotonic() - began
    left = len(ground.streams())
    ground.stack.restart_collector()
    ground.drain()
    outcome = ground.judge(
        set(load.answered),
        by="requests",
        emitted=load.sent,
        exit_code=code,
        stop_seconds=round(took, 1),
        streams_left=left,
    )
    outcome.require(took < 15, f"expected the service to end within 15 s, found {took:.1f} s")
    outcome.require(left == 1, f"expected the stream to be left for later, found {left} streams")
    return outcome


def collector_stopped(ground: Ground) -> Outcome:
    """The collector gets SIGTERM while Elasticsearch is down, and SIGKILL after a grace period."""
    stack = ground.stack
    emitter = emitting(ground, 1500)
    ground.notebook.wait_for(ground.scaled(5_000))
    stack.kill_elasticsearch()
    ground.notebook.wait_for(ground.scaled(12_000))
    began = time.monotonic()
    willing = process.stop(stack.collector_process, 10)
    took = time.monotonic() - began
    stack.restart_collector()
    stack.restart_elasticsearch()
    ground.notebook.wait_for(ground.scaled(RECORDS))
    code = emitter.terminate()
    ground.drain()
    return ground.judge(sigterm_was_enough=willing, stop_seconds=round(took, 1), exit_code=code)


def direct(ground: Ground) -> Outcome:
    """Acknowledged means stored: the collector is killed twice, Elasticsearch once, both at the same time once."""
    stack = ground.stack
    with varied_collector(stack, direct=True):
        emitter = emitting(ground, 1500)
        ground.notebook.wait_for(ground.scaled(5_000))
        stack.kill_collector()
        time.sleep(2)
        stack.restart_collector()
        ground.notebook.wait_for(ground.scaled(9_000))
        stack.kill_elasticsearch()
        time.sleep(5)
        stack.kill_collector()
        stack.restart_collector()
        time.sleep(20)
        stack.restart_elasticsearch()
        ground.notebook.wait_for(ground.scaled(RECORDS))
        emitter.terminate()
        drained = ground.drain()
        return ground.judge(drain_seconds=round(drained, 1))


CELLS = [
    Cell(
        "kill-collector-twice",
        "The collector is killed with SIGKILL twice under load.",
        killed_twice,
        minutes=0.6,
        group="collector",
    ),
    Cell(
        "collector-absent",
        "No collector for ten minutes while the service behind uvicorn answers as fast as it can; then it comes back.",
        absent,
        minutes=16,
        group="absent",
    ),
    Cell(
        "sigterm-service-without-collector",
        "The service gets SIGTERM while the collector is away.",
        service_stopped,
        minutes=1.5,
        group="collector",
    ),
    Cell(
        "sigterm-collector-without-elasticsearch",
        "The collector gets SIGTERM while Elasticsearch is down, and SIGKILL ten seconds later.",
        collector_stopped,
        minutes=1.2,
        group="collector",
    ),
    Cell(
        "direct-kill",
        "Direct topology: the collector and Elasticsearch are killed under load, one after the other and together.",
        direct,
        minutes=1.5,
        group="collector",
    ),
]
