"""Unhandled errors that did not end the process."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.capture.conftest import Ask

from mlaudit.capture import request_context
from mlaudit.capture.process import audit_hooks, error_reports
from mlaudit.capture.process.error_reports import ErrorReports
from mlaudit.capture.process.lifecycle import Lifecycle
from mlaudit.capture.web.asgi import AsgiMiddleware
from mlaudit.catalog.names import ERROR_REPORTED, SERVICE_CRASHED
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = ERROR_REPORTED
_logger = logging.getLogger("shop.orders")


@pytest.fixture(autouse=True)
def only_ours() -> None:
    """Whatever an earlier test has switched on in this process is taken out."""
    error_reports.error_reports.uninstall()
    audit_hooks.uninstall()


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the built-in policy, with the hooks for errors."""
    reports = ErrorReports()
    with capture(instrument=False) as found:
        reports.install()
        reports.install()
        try:
            yield found
        finally:
            reports.stop()
            reports.uninstall()
            audit_hooks.uninstall()


def fail(message: str = "threshold") -> None:
    """Raises."""
    raise KeyError(message)


def report() -> None:
    """Logs an error with its exception."""
    try:
        fail()
    except KeyError:
        _logger.exception("could not score")


@pytest.mark.parametrize("own_handler", [False, True])
def test_error_of_a_task_is_told(log: AuditLog, own_handler: bool) -> None:
    """An exception that nobody awaits is told once, and the program's own handler of the loop is called as ever."""
    seen: list[Any] = []

    async def main() -> None:
        if own_handler:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        task = asyncio.create_task(asyncio.to_thread(fail))
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(main())
    (record,) = log.of(KIND)
    assert (record["error.type"], record["event.outcome"]) == ("KeyError", "failure")
    assert record["event.reason"] == error_reports.IN_TASK
    assert record["code.function.name"] == "fail"
    assert "in fail" in record["error.stack_trace"]
    assert [type(context["exception"]) for context in seen] == ([KeyError] if own_handler else [])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_error_of_a_finalizer_is_told(log: AuditLog) -> None:
    """What the interpreter can only print is recorded; the program's hook for it stays and is called."""

    class Rude:
        def __del__(self) -> None:
            raise ValueError("postgres://u:hunter2secret@h/x")

    before = sys.unraisablehook
    Rude()
    assert sys.unraisablehook is before
    (record,) = log.of(KIND)
    assert (record["error.type"], record["event.reason"]) == ("ValueError", error_reports.IN_FINALIZER)
    assert "hunter2secret" not in str(record)


def test_logged_exception_is_told(log: AuditLog, caplog: pytest.LogCaptureFixture) -> None:
    """What the program logs at ERROR with an exception is recorded, and logged with its own place as ever."""
    report()
    _logger.error("no exception")
    _logger.warning("not an error", exc_info=ValueError("x"))
    (record,) = log.of(KIND)
    assert record["event.reason"] == "logged by shop.orders as ERROR"
    assert record["code.function.name"] == "fail"
    assert caplog.records[0].funcName == "report"
    assert len(caplog.records) == 3


def test_error_that_is_logged_again_and_again_is_summed_up() -> None:
    """A thousand errors of one class at one place make two records, the last with the count; another place its own."""
    reports = ErrorReports()
    with capture(instrument=False) as log:
        reports.install()
        try:
            for _ in range(1000):
                report()
            try:
                int("x")
            except ValueError:
                _logger.exception("another")
        finally:
            reports.stop()
            reports.uninstall()
            audit_hooks.uninstall()
    recorded = [(record["error.type"], "999 times" in record["event.reason"]) for record in log.of(KIND)]
    assert recorded == [("KeyError", False), ("ValueError", False), ("KeyError", True)]


def test_own_loggers_are_not_read(log: AuditLog) -> None:
    """What mlaudit says about a record would make a record."""
    for name in ("mlaudit", "mlaudit.spool"):
        logging.getLogger(name).error("x", exc_info=ValueError("x"))
    assert log.of(KIND) == []


def test_logger_that_is_off_stays_off(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program's filters drop is not told."""
    monkeypatch.setattr(_logger, "disabled", True)
    report()
    assert log.of(KIND) == []


def test_request_that_failed_is_not_told_again(log: AuditLog, ask: Ask) -> None:
    """The record of the request has the error; what the server logs of it afterwards is silent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        fail()

    heard = ask(AsgiMiddleware(app), path="/predict", method="POST")
    assert isinstance(heard.error, KeyError)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=heard.error)
    assert log.of(KIND) == []
    assert [record["error.type"] for record in log.records if "error.type" in record] == ["KeyError"]


def test_web_framework_that_logs_within_a_request_is_silent(log: AuditLog) -> None:
    """The request's record contains it; what the program itself logs there is recorded."""
    framework: dict[str, Any] = {"__name__": "django.utils.log", "_logger": _logger}
    exec("def log_response(error):\n    _logger.error('x', exc_info=error)\n", framework)
    token = request_context.current_request.set(request_context.RequestTrail())
    try:
        framework["log_response"](ValueError("x"))
        assert log.of(KIND) == []
        report()
        assert len(log.of(KIND)) == 1
    finally:
        request_context.current_request.reset(token)
    framework["log_response"](ValueError("x"))
    assert len(log.of(KIND)) == 2


def test_crash_that_is_logged_too_is_told_once(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """An excepthook that logs what crashed reports nothing new."""

    def own(kind: Any, error: Any, trace: Any) -> None:
        _logger.critical("crashed", exc_info=(kind, error, trace))

    monkeypatch.setattr(sys, "excepthook", own)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: own(*arguments[:3]))
    life = Lifecycle()
    life.install()
    try:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join(10)
        sys.excepthook(ValueError, ValueError("x"), None)
    finally:
        life.uninstall()
    assert len(log.of(SERVICE_CRASHED)) == 2
    assert log.of(KIND) == []


def test_broken_hook_leaves_the_log_line(
    log: AuditLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of mlaudit is reported; the program's line is logged."""
    monkeypatch.setattr(error_reports, "unhandled_fields", lambda *_: 1 / 0)
    report()
    assert [record.message for record in caplog.records if record.name == "shop.orders"] == [
        "could not score"
    ]
    assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]


def test_hooks_are_taken_out_again() -> None:
    """Logger and loop are as they were."""
    before = logging.Logger.callHandlers, asyncio.BaseEventLoop.call_exception_handler
    reports = ErrorReports()
    reports.install()
    assert logging.Logger.callHandlers is not before[0]
    reports.uninstall()
    assert (logging.Logger.callHandlers, asyncio.BaseEventLoop.call_exception_handler) == before


def test_error_outside_of_a_trail_begins_none() -> None:
    """A process that does no machine learning may fail as it likes."""
    reports = ErrorReports()
    reports.install()
    try:
        report()
        assert audit_hooks._pending == []
    finally:
        reports.uninstall()
        audit_hooks.uninstall()
