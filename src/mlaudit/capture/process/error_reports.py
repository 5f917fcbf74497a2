"""Unhandled errors after which the process continues: ``audit.error.reported``.

There are three sources: an exception in a task or callback of asyncio, which the event loop handles; an exception in
a finalizer or a weak reference's callback, which the runtime can only print (``sys.unraisablehook``); and what the
program itself logs at level ERROR and above with an exception. Nothing of the program is replaced: loop, loggers and
hooks work as before.

An error of the same class from the same place is recorded once a minute, with a count. Errors in the
record of a request or a crash are not recorded again: an exception that has passed a hooked web application, what a web
framework logs while one of its requests is recorded, what a hook for crashes logs. No error report starts a trail.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import wrapt

from mlaudit.capture.process import audit_hooks
from mlaudit.capture.process.background import background
from mlaudit.capture.process.caller import caller, code_fields
from mlaudit.capture.process.error_text import unhandled_fields
from mlaudit.capture.request_context import open_trail
from mlaudit.catalog.names import ERROR_REPORTED
from mlaudit.event import FAILURE, AuditEvent
from mlaudit.pipeline import current
from mlaudit.safety.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

COMPONENT: Final = "capture.error_reports"
UNRAISABLE: Final = "sys.unraisablehook"
IN_TASK: Final = "unhandled in an asyncio task or callback"
IN_FINALIZER: Final = "unhandled in a finalizer or callback of the runtime"
# Exceptions that passed these files are in the record of their request.
_WEB_LAYERS: Final = ("mlaudit.capture.web.asgi", "mlaudit.capture.web.wsgi")
_LOOP: Final = "asyncio"
# Loggers that log the error of a request.
_FRAMEWORKS: Final = frozenset(
    {
        "flask",
        "django",
        "starlette",
        "fastapi",
        "uvicorn",
        "gunicorn",
        "hypercorn",
        "werkzeug",
        "quart",
        "litestar",
    }
)
Key = tuple[str, str, int]


class _Silent(threading.local):
    now = False


_silent: Final = _Silent()


class ErrorReports:
    """The error reports of this process."""

    def __init__(self) -> None:
        self._repeats: RateLimit[Key] = RateLimit()
        self._installed = False
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Sets the hooks. Idempotent."""
        audit_hooks.handle({UNRAISABLE: self._on_unraisable})
        if self._installed:
            return
        self._installed = True
        self._before(logging.Logger, "callHandlers", self._on_log)
        wrapt.register_post_import_hook(self._on_asyncio, "asyncio.base_events")

    def uninstall(self) -> None:
        """Removes the hooks that are still mlaudit's; for tests."""
        audit_hooks.leave(UNRAISABLE)
        while self._undo:
            self._undo.pop()()
        self._installed = False

    def stop(self) -> None:
        """Records how often reported errors happened again."""
        for (kind, file, line), count in self._repeats.rest().items():
            fields = {
                "error.type": kind,
                "code.file.path": file,
                "code.line.number": line,
                "event.reason": f"and {count} times more since the last record of it",
            }
            self._report(fields)

    def report(
        self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, reason: str
    ) -> None:
        """Records an error, unless a record already contains it."""
        if current.running() is None or sys.is_finalizing() or _is_reported(trace):
            return
        # The garbage collector may find a lost task anywhere, also while the pipeline works.
        if not background.runs and caller() is None:
            return
        place = _place(trace)
        key = (kind.__name__, place.get("code.file.path", ""), place.get("code.line.number", 0))
        if (before := self._repeats.due(key)) is None:
            return
        if before:
            reason += f"; and {before} times more since the last record of it"
        self._report({**unhandled_fields(kind, error, trace), **place, "event.reason": reason})

    def _report(self, fields: dict[str, Any]) -> None:
        audit_hooks.record_event(AuditEvent(ERROR_REPORTED, FAILURE, fields=fields))

    def _on_asyncio(self, module: Any) -> None:
        if self._installed:
            self._before(module.BaseEventLoop, "call_exception_handler", self._on_loop, silences=True)

    def _on_unraisable(self, _event: str, args: tuple[Any, ...]) -> None:
        raised: Any = args[1]
        kind = raised.exc_type
        if not issubclass(kind, SystemExit | KeyboardInterrupt):
            self.report(kind, raised.exc_value, raised.exc_traceback, IN_FINALIZER)

    def _on_log(self, _logger: Any, record: Any) -> None:
        if record.levelno < logging.ERROR or not record.exc_info or _silent.now:
            return
        name = record.name
        kind, error, trace = record.exc_info
        if kind is None or name == "mlaudit" or name.startswith("mlaudit."):
            return
        # A task may be dropped anywhere, also in a web framework's code.
        if name != _LOOP and open_trail() is not None and _is_framework():
            return
        # uvloop's loop only logs what asyncio's own loop passes to its handler.
        reason = IN_TASK if name == _LOOP else f"logged by {name} as {record.levelname}"
        self.report(kind, error, trace, reason)

    def _on_loop(self, _loop: Any, context: Any) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.report(type(error), error, error.__traceback__, IN_TASK)

    def _before(
        self, owner: Any, name: str, look: Callable[[Any, Any], None], *, silences: bool = False
    ) -> None:
        """Inspects the only argument of a method before the call.

        Not installed by ``capture.hooks``: every line that the program logs passes here, and no trail must start.
        """
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(self: Any, value: Any) -> Any:
            try:
                look(self, value)
            except Exception as error:  # noqa: BLE001 - the program's own report must appear
                _contain(error)
            if not silences:
                return original(self, value)
            with already_reported():
                return original(self, value)

        setattr(owner, name, wrapper)

        def back() -> None:
            if getattr(owner, name) is wrapper:
                setattr(owner, name, original)

        self._undo.append(back)


@contextlib.contextmanager
def already_reported() -> Iterator[None]:
    """Marks what this thread logs inside as an error that is already recorded."""
    before, _silent.now = _silent.now, True
    try:
        yield
    finally:
        _silent.now = before


def _is_reported(trace: TracebackType | None) -> bool:
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(_WEB_LAYERS):
            return True
        trace = trace.tb_next
    return False


def _is_framework() -> bool:
    """Whether a web framework itself logs."""
    found = caller()
    nearest = next((one for one in found.modules if one.partition(".")[0] != "logging"), "") if found else ""
    return nearest.partition(".")[0] in _FRAMEWORKS


def _place(trace: TracebackType | None) -> dict[str, Any]:
    """The place where the error was raised."""
    if trace is None:
        return {}
    while trace.tb_next is not None:
        trace = trace.tb_next
    return code_fields(trace.tb_frame.f_code, trace.tb_lineno)


def _contain(error: Exception) -> None:
    pipeline = current.running()
    if pipeline is not None and (background.runs or caller() is not None):
        background.submit(lambda: pipeline.fault(COMPONENT, error))


error_reports: Final = ErrorReports()
