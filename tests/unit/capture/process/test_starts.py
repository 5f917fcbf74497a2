"""First start, restart, or a worker beside others; and how it ended before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture.process import starts
from mlaudit.capture.process.lifecycle import Lifecycle
from mlaudit.capture.process.starts import Starts
from mlaudit.catalog.names import SERVICE_STARTED
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the built-in policy, without hooks."""
    with capture(instrument=False) as found:
        yield found


def kill(process: Starts) -> None:
    """The process is gone: the kernel releases its lock."""
    assert process._mark is not None
    process._mark.leave()
    process._mark = None


def test_first_start_and_restart_after_an_orderly_end(log: AuditLog) -> None:
    """The second start records how the first one ended, and how long nothing ran."""
    first = Starts()
    assert first.begin(log.pipeline) == {"audit.service.start": "first"}
    first.end("SIGTERM")
    again = Starts().begin(log.pipeline)
    assert again.pop("audit.service.previous.downtime") >= 0
    assert again == {"audit.service.start": "restart", "audit.service.previous.end": "SIGTERM"}


def test_workers_of_one_service_are_no_restarts_of_each_other(log: AuditLog) -> None:
    """Beside a living process a start is neither the first nor a restart, also when another worker has ended."""
    master, worker = Starts(), Starts()
    master.begin(log.pipeline)
    assert worker.begin(log.pipeline) == {"audit.service.start": "beside"}
    worker.end("exit")
    assert Starts().begin(log.pipeline) == {"audit.service.start": "beside"}


def test_killed_process_is_told_by_the_next_start(log: AuditLog) -> None:
    """A process that could not say how it ended was killed, and nobody knows when."""
    victim = Starts()
    victim.begin(log.pipeline)
    kill(victim)
    expected = {"audit.service.start": "restart", "audit.service.previous.end": "killed"}
    assert Starts().begin(log.pipeline) == expected


def test_worker_that_replaces_a_killed_one_is_a_restart(log: AuditLog) -> None:
    """Also while others serve on; and once only."""
    master, victim = Starts(), Starts()
    master.begin(log.pipeline)
    victim.begin(log.pipeline)
    kill(victim)
    assert Starts().begin(log.pipeline)["audit.service.previous.end"] == "killed"
    assert Starts().begin(log.pipeline) == {"audit.service.start": "beside"}


def test_restart_of_the_machine_is_not_a_kill(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended together with the machine is recorded as that, by the kernel's boot id."""
    victim = Starts()
    victim.begin(log.pipeline)
    kill(victim)
    monkeypatch.setattr(starts, "boot_id", lambda: "another boot")
    assert Starts().begin(log.pipeline)["audit.service.previous.end"] == "restart of the machine"


def test_end_is_noted_once(log: AuditLog) -> None:
    """A process that ends twice, or was never begun, notes nothing more."""
    process = Starts()
    process.end("never begun")
    process.begin(log.pipeline)
    process.end("SIGTERM")
    process.end("exit")
    assert Starts().begin(log.pipeline)["audit.service.previous.end"] == "SIGTERM"


def test_clock_that_was_set_back_gives_no_downtime(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative time is not told."""
    process = Starts()
    process.begin(log.pipeline)
    process.end("exit")
    monkeypatch.setattr(starts.time, "time_ns", lambda: 1)
    assert "audit.service.previous.downtime" not in Starts().begin(log.pipeline)


def test_record_of_the_start_carries_it(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Container, image, code and kind of start are in audit.service.started; a crash is the end of the one before."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "container.id=abc,container.image.tags=1.4.0")
    life = Lifecycle()
    life.started(log.pipeline, "digest", "c0ffee1")
    error = ValueError("x")
    life.crashed(ValueError, error, None)
    life.stop("crash", 1)
    Lifecycle().started(log.pipeline)
    first, second = log.of(SERVICE_STARTED)
    assert first["audit.service.start"] == "first"
    assert first["container.id"] == "abc"
    assert first["container.image.tag"] == ["1.4.0"]
    assert first["vcs.ref.head.revision"] == "c0ffee1"
    assert first["host.name"]
    assert (second["audit.service.start"], second["audit.service.previous.end"]) == ("restart", "crash")


def test_damaged_memory_costs_the_start_nothing(log: AuditLog) -> None:
    """The start is recorded without its kind, and so is the fault."""
    folder = log.pipeline.settings.state_dir / "services"
    folder.mkdir(exist_ok=True)
    (folder / "test-service.starts.json").write_text("[]")
    Lifecycle().started(log.pipeline)
    assert "audit.service.start" not in log.of(SERVICE_STARTED)[0]
    assert "ValueError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]


def test_forked_child_does_not_keep_its_parent_alive(log: AuditLog) -> None:
    """When the parent is gone its mark is free, though a child still runs."""
    parent = Starts()
    parent.begin(log.pipeline)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        parent.after_fork()
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    kill(parent)
    found: dict[str, Any] = Starts().begin(log.pipeline)
    os.write(go[1], b"x")
    os.waitpid(child, 0)
    for descriptor in (*ready, *go):
        os.close(descriptor)
    assert found["audit.service.previous.end"] == "killed"
