"""The example service behind uvicorn and gunicorn: what was answered is stored, however the processes end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.service import GUNICORN, UVICORN, UVICORN_WORKERS, Service, holder, start

RECORDS = 20_000
_PREDICTION = "audit.ml.prediction"
Fault = Callable[[Ground, Service], dict[str, Any]]


def kill_master(ground: Ground, service: Service) -> dict[str, Any]:
    """SIGKILL to the master alone; its orphans go on answering and recording, and are ended with SIGTERM."""
    service.process.kill()
    orphans = _writers(ground)
    time.sleep(1.0)
    for pid in orphans:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not _writers(ground), "the orphaned workers to end on SIGTERM", 60)
    return {"orphans": len(orphans), "streams_left": len(ground.streams())}


def kill_all(ground: Ground, service: Service) -> dict[str, Any]:
    """SIGKILL to all processes at once."""
    killed = len(_writers(ground))
    service.process.kill_group()
    return {"killed_writers": killed}


def terminate(ground: Ground, service: Service) -> dict[str, Any]:
    """SIGTERM, as an orchestrator does."""
    code = service.process.terminate()
    ended = not _writers(ground)
    return {"exit_code": code, "all_ended": ended, "streams_left": len(ground.streams())}


def ended(ground: Ground, command: Sequence[str], processes: int, fault: Fault) -> Outcome:
    """The service is ended under load by ``fault``; the same service, started again, adopts what is left."""
    service = start(ground, command, processes)
    with service.load() as load:
        took = load.wait(ground.scaled(RECORDS))
        notes = fault(ground, service)
    dead = ground.streams()
    again = start(ground, command, processes)
    adopted = ground.wait_for_adoption(dead) if dead else 0.0
    again.process.terminate()
    ground.drain()
    return _judge(ground, load.answered, load.sent, load.refused, took, adoption_seconds=adopted, **notes)


def worker_killed(ground: Ground, command: Sequence[str]) -> Outcome:
    """One of two workers is killed under load; the other one, and its successor, go on and adopt its stream."""
    service = start(ground, command, 2)
    half = ground.scaled(RECORDS) // 2
    with service.load() as load:
        took = load.wait(half)
        (victim, stream), *others = [
            (pid, stream) for stream in ground.streams() if (pid := holder(stream)) in service.workers()
        ]
        os.kill(victim, signal.SIGKILL)
        adopted = ground.wait_for_adoption([stream])
        took += load.wait(2 * half)
    service.process.terminate()
    ground.drain()
    outcome = _judge(
        ground, load.answered, load.sent, load.refused, took, adoption_seconds=adopted, others=len(others)
    )
    outcome.require(len(others) == 1, f"expected two workers, found {1 + len(others)}")
    return outcome


def _writers(ground: Ground) -> list[int]:
    return [pid for pid in map(holder, ground.streams()) if pid]


def _judge(
    ground: Ground,
    answered: Sequence[str],
    sent: int,
    refused: dict[str, int],
    took: float,
    *,
    adoption_seconds: float,
    **notes: Any,
) -> Outcome:
    outcome = ground.judge(
        set(answered),
        by="requests",
        emitted=sent,
        adoption_seconds=round(adoption_seconds, 2),
        requests_per_second=round(len(answered) / took) if took else 0,
        **notes,
    )
    others = sorted(set(refused.values()))
    outcome.require(set(others) <= {503}, f"expected only answers 200, found also {others}")
    return outcome


CELLS = [
    Cell(
        "kill-uvicorn",
        "The example service behind uvicorn is killed with SIGKILL under load and started again.",
        partial(ended, command=UVICORN, processes=1, fault=kill_all),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "sigterm-uvicorn",
        "The same service gets SIGTERM under load.",
        partial(ended, command=UVICORN, processes=1, fault=terminate),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "kill-uvicorn-worker",
        "One worker of `uvicorn --workers 2` is killed with SIGKILL; the others go on and adopt its stream.",
        partial(worker_killed, command=UVICORN_WORKERS),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "kill-uvicorn-workers",
        "`uvicorn --workers 2`: the parent and both workers are killed at once and started again.",
        partial(ended, command=UVICORN_WORKERS, processes=2, fault=kill_all),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "sigterm-uvicorn-workers",
        "`uvicorn --workers 2` gets SIGTERM under load.",
        partial(ended, command=UVICORN_WORKERS, processes=2, fault=terminate),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "kill-gunicorn-worker",
        "One of two UvicornWorkers under gunicorn is killed with SIGKILL; the others go on and adopt its stream.",
        partial(worker_killed, command=GUNICORN),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "kill-gunicorn-master",
        "gunicorn's master alone is killed with SIGKILL under load; its workers, which go on answering, get SIGTERM.",
        partial(ended, command=GUNICORN, processes=2, fault=kill_master),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "kill-gunicorn-all",
        "gunicorn's master and both workers are killed at once and started again.",
        partial(ended, command=GUNICORN, processes=2, fault=kill_all),
        minutes=1.5,
        group="servers",
    ),
    Cell(
        "sigterm-gunicorn",
        "gunicorn with two UvicornWorkers gets SIGTERM under load.",
        partial(ended, command=GUNICORN, processes=2, fault=terminate),
        minutes=1.5,
        group="servers",
    ),
]
