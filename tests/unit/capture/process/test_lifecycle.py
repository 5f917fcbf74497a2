"""Start, stop and crash of a process, recorded once."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture import request_context, watch
from mlaudit.capture.process import audit_hooks, environment
from mlaudit.capture.process import lifecycle as lifecycle_module
from mlaudit.capture.process.error_text import MAX_STACK
from mlaudit.capture.process.lifecycle import Lifecycle, lifecycle
from mlaudit.catalog.names import SERVICE_CRASHED, SERVICE_STARTED, SERVICE_STOPPED
from mlaudit.errors import SpoolUnavailableError
from mlaudit.pipeline import current
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the built-in policy, without hooks."""
    with capture(instrument=False) as found:
        yield found


@pytest.fixture
def life(log: AuditLog) -> Lifecycle:
    """A process that has started."""
    found = Lifecycle()
    found.started(log.pipeline, "digest")
    return found


def raised(error: BaseException) -> BaseException:
    """An exception with a traceback."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


def test_start_tells_what_started(life: Lifecycle, log: AuditLog) -> None:
    """Interpreter, command line, folder, parent and software are in the record."""
    (record,) = log.of(SERVICE_STARTED)
    assert record["process.executable"] == sys.executable
    assert record["process.command_line"]
    assert record["process.working_directory"]
    assert record["process.parent.pid"] > 0
    assert record["audit.environment.digest"] == "digest"
    assert record["labels"]["role"] in ("job", "service")
    assert record["audit.target.id"] == "test-service"


def test_secrets_on_the_command_line_are_removed(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password given as an argument is not in the record."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "serve.py", "--password", "hunter2secret", "--port=80"])
    Lifecycle().started(log.pipeline)
    command = log.of(SERVICE_STARTED)[0]["process.command_line"]
    assert "serve.py" in command
    assert "hunter2secret" not in command


def test_stop_is_told_once(life: Lifecycle, log: AuditLog) -> None:
    """Whatever ways of ending come together, one record contains the first, and the stream is ended."""
    life.stop("shutdown of the web service")
    life.stop("SIGTERM", 143)
    (record,) = log.of(SERVICE_STOPPED)
    assert record["event.reason"] == "shutdown of the web service"
    assert record["event.duration"] > 0
    assert log.records[-1]["audit.kind"] == "audit.stream.ended"


def test_records_after_the_stop_are_ended_too(life: Lifecycle, log: AuditLog) -> None:
    """What still comes after the stop begins a stream, and the next way of ending ends it."""
    life.stop("shutdown of the web service")
    log.pipeline.open()
    life.stop("exit")
    assert [record["audit.kind"] for record in log.records].count("audit.stream.ended") == 2
    assert len(log.of(SERVICE_STOPPED)) == 1


def test_service_that_serves_again_starts_again(life: Lifecycle, log: AuditLog) -> None:
    """A second start-up of the web service in one process is a start."""
    previous = current.install(log.pipeline)
    life.service_started()
    assert len(log.of(SERVICE_STARTED)) == 1
    life.stop("shutdown of the web service")
    life.service_started()
    assert len(log.of(SERVICE_STARTED)) == 2
    current.install(previous)


@pytest.mark.parametrize("shown", ["start-up", "request", "module"])
def test_process_serves_once_it_shows_it(monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    """A start-up of a web service, a request or an imported server makes a job a service."""
    life = Lifecycle()
    monkeypatch.setattr(lifecycle_module, "lifecycle", life)
    monkeypatch.setattr(lifecycle_module, "_SERVERS", ("a_server",))
    monkeypatch.setattr(request_context, "_first_request", [life._on_first_request])
    assert not lifecycle_module.serves()
    if shown == "start-up":
        life.service_started()
    elif shown == "request":
        request_context.RequestTrail()
    else:
        monkeypatch.setitem(sys.modules, "a_server", sys)
    assert lifecycle_module.serves()


def test_exit_code_decides_the_outcome(life: Lifecycle, log: AuditLog) -> None:
    """A stop with a non-zero exit code is a failure."""
    life.stop("SIGINT", 130)
    record = log.of(SERVICE_STOPPED)[0]
    assert (record["event.outcome"], record["process.exit_code"]) == ("failure", 130)


def test_crash_tells_error_and_stack(life: Lifecycle, log: AuditLog) -> None:
    """An unhandled exception is recorded with class, scrubbed message and stack; no stop is recorded besides."""
    error = raised(ValueError("cannot open postgres://u:hunter2secret@h/x"))
    life.crashed(ValueError, error, error.__traceback__)
    life.stop("crash")
    (record,) = log.of(SERVICE_CRASHED)
    assert record["error.type"] == "ValueError"
    assert "cannot open" in record["error.message"]
    assert "in raised" in record["error.stack_trace"]
    assert "hunter2secret" not in str(record)
    assert record["process.exit_code"] == 1
    assert log.of(SERVICE_STOPPED) == []
    assert log.records[-1]["event.reason"] == "crash"


def test_crash_of_a_thread_is_told_and_the_process_goes_on(life: Lifecycle, log: AuditLog) -> None:
    """An exception that ends a thread names the thread; the process's stop is still told."""
    error = raised(KeyError("x"))
    life.crashed(KeyError, error, error.__traceback__, "worker-1")
    life.stop("exit")
    assert "worker-1" in log.of(SERVICE_CRASHED)[0]["event.reason"]
    assert len(log.of(SERVICE_STOPPED)) == 1


def test_endless_recursion_has_a_bounded_stack(life: Lifecycle, log: AuditLog) -> None:
    """The stack of a deep recursion is cut in the middle."""

    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        raise ValueError("x" * 100_000)

    try:
        deep(400)
    except ValueError as caught:
        life.crashed(ValueError, caught, caught.__traceback__)
    assert len(log.of(SERVICE_CRASHED)[0]["error.stack_trace"]) <= MAX_STACK + 10


def test_error_that_cannot_be_shown(life: Lifecycle, log: AuditLog) -> None:
    """An exception whose own text raises is recorded all the same."""

    class RudeError(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    error = raised(RudeError())
    life.crashed(RudeError, error, error.__traceback__)
    assert log.of(SERVICE_CRASHED)[0]["error.type"] == "RudeError"


def test_hooks_call_what_was_there_before(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own excepthooks get every exception, also when ours is broken."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *arguments: seen.append(arguments[0]))
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_type))
    life = Lifecycle()
    life.install()
    try:
        life.started(log.pipeline)
        monkeypatch.setattr(life, "stop", lambda *_: 1 / 0)
        sys.excepthook(ValueError, ValueError("a"), None)
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
        thread = threading.Thread(target=lambda: {}["missing"], name="worker-2")
        thread.start()
        thread.join(5)
    finally:
        life.uninstall()
    assert seen == [ValueError, KeyboardInterrupt, KeyError]
    assert [record["error.type"] for record in log.of(SERVICE_CRASHED)] == ["ValueError", "KeyError"]


def test_somebody_elses_sigterm_handler_is_left_alone() -> None:
    """A handler that is there already stays; ours is set only over the default, and taken off again."""

    def own(*_: Any) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        life = Lifecycle()
        life.install()
        assert signal.getsignal(signal.SIGTERM) is own
        life.uninstall()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        life.install()
        life.install()
        assert signal.getsignal(signal.SIGTERM) == life._on_sigterm
        life.uninstall()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_stop_that_cannot_be_recorded_stops(life: Lifecycle, log: AuditLog) -> None:
    """With a full disk the process ends as it would."""
    log.fail(SpoolUnavailableError("disk full"))
    life.stop("exit")
    log.heal()


def test_broken_callback_does_not_keep_the_process(life: Lifecycle, log: AuditLog) -> None:
    """What runs before the stop may fail; the stop is recorded, and so is the fault."""
    life.before_stop(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    life.stop("exit")
    assert len(log.of(SERVICE_STOPPED)) == 1
    assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]


@pytest.mark.parametrize("broken", ["software", "compare_with_last_start"])
def test_each_part_of_the_start_is_contained(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A fault in one part of the start is reported and does not affect the others."""
    monkeypatch.setattr(environment, broken, lambda *_: 1 / 0)
    watch.begin(log.pipeline)
    try:
        assert len(log.of(SERVICE_STARTED)) == 1
        assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]
    finally:
        audit_hooks.uninstall()
        lifecycle._pipeline = None
        lifecycle._before.clear()
