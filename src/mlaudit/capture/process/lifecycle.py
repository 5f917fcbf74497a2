"""Start, stop and crash of the audited process.

A stop is detected in one of these ways, whichever comes first: the web service reports that its shutdown is complete
(ASGI lifespan), SIGTERM, the end of a multiprocessing child, the interpreter's exit. Nothing relies on ``atexit``
alone: a process that a signal ends, or a worker that ends with ``os._exit``, does not run it. A process that ends in
none of these ways (SIGKILL, a segmentation fault) leaves a stream that the next start closes as abandoned.
"""

from __future__ import annotations

import atexit
import os
import platform
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from mlaudit._version import __version__
from mlaudit.capture import request_context
from mlaudit.capture.origin import originate
from mlaudit.capture.process.container import container_fields
from mlaudit.capture.process.error_reports import already_reported
from mlaudit.capture.process.error_text import unhandled_fields
from mlaudit.capture.process.starts import Starts
from mlaudit.capture.shorten import shortened
from mlaudit.catalog.names import SERVICE_CRASHED, SERVICE_STARTED, SERVICE_STOPPED
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.lifecycle"
# How long a signal handler waits for the record before the interrupted thread continues: that thread may hold
# the lock that the record needs.
_PATIENCE: Final = 0.5
_SERVERS: Final = ("uvicorn", "gunicorn", "hypercorn", "granian", "daphne", "waitress")


class Lifecycle:
    """The start and end of one process, each recorded once."""

    def __init__(self) -> None:
        self._pipeline: Pipeline | None = None
        self._begun = 0
        self._stopped = False
        self._crashed = False
        self._lock = threading.Lock()
        self._stop_recorded = threading.Event()
        self._installed = False
        self.has_served = False
        self._before: list[Callable[[], None]] = []
        self._starts = Starts()
        self._excepthook: Callable[..., Any] = sys.__excepthook__
        self._thread_hook: Callable[..., Any] = threading.__excepthook__

    def install(self) -> None:
        """Installs the hooks that detect the end of the process. Idempotent."""
        if self._installed:
            return
        self._installed = True
        self._excepthook, sys.excepthook = sys.excepthook, self._on_crash
        self._thread_hook, threading.excepthook = threading.excepthook, self._on_thread_crash
        atexit.register(self._on_exit)
        os.register_at_fork(after_in_child=self._after_fork)
        request_context.on_service_started(self.service_started)
        request_context.on_first_request(self._on_first_request)
        request_context.on_service_stopping(self._on_service_stopping)
        self._watch_sigterm()

    def uninstall(self) -> None:
        """Restores the previous hooks where mlaudit's are still installed; for tests."""
        if sys.excepthook == self._on_crash:
            sys.excepthook = self._excepthook
        if threading.excepthook == self._on_thread_crash:
            threading.excepthook = self._thread_hook
        atexit.unregister(self._on_exit)
        if threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGTERM) == self._on_sigterm
        ):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._installed = False

    def before_stop(self, callback: Callable[[], None]) -> None:
        """Registers what runs before the end of the process is recorded."""
        self._before.append(callback)

    def started(self, pipeline: Pipeline, environment_digest: str = "", revision: str = "") -> None:
        """Records that the process started, with the software and code that it runs; called when its pipeline has."""
        self._pipeline = pipeline
        self._begun = time.monotonic_ns()
        self._stopped = False
        self._stop_recorded.clear()
        self._watch_child()
        fields = {
            **_process_fields(),
            "process.command_line": shortened(" ".join(sys.orig_argv or sys.argv), 4096),
            "process.working_directory": _working_directory(),
            "audit.environment.digest": environment_digest,
            "vcs.ref.head.revision": revision,
            **container_fields(os.environ),
            **_contained(pipeline, self._starts.begin, pipeline, instead={}),
            "labels": {
                "role": "service" if serves() else "job",
                "python": platform.python_version(),
                "platform": f"{platform.system()} {platform.machine()}",
                "mlaudit": __version__,
            },
        }
        self._emit(
            pipeline, SERVICE_STARTED, SUCCESS, {name: value for name, value in fields.items() if value != ""}
        )

    def service_started(self) -> None:
        """Starts the trail when the web service is up, before its first request."""
        self.has_served = True
        pipeline = current.pipeline()
        if pipeline is not None and pipeline is self._pipeline and self._stopped:
            # The same process serves again, as in tests.
            self.started(pipeline)

    def _on_first_request(self) -> None:
        self.has_served = True

    def stop(self, reason: str, exit_code: int | None = None) -> None:
        """Records the end of the process, once, ends the stream, and sends the rest for the configured time."""
        with self._lock:
            pipeline = self._pipeline
            first, self._stopped = not self._stopped, True
        if pipeline is None:
            return
        if first:
            for callback in self._before:
                _contained(pipeline, callback)
            if not self._crashed:
                fields: dict[str, Any] = {
                    "event.reason": reason,
                    "event.duration": time.monotonic_ns() - self._begun,
                    "process.parent.pid": os.getppid(),
                }
                if exit_code is not None:
                    fields["process.exit_code"] = exit_code
                self._emit(pipeline, SERVICE_STOPPED, SUCCESS if not exit_code else FAILURE, fields)
            _contained(pipeline, self._starts.end, "crash" if self._crashed else reason)
        self._stop_recorded.set()
        if pipeline.stream is not None:
            _contained(pipeline, lambda: pipeline.close("crash" if self._crashed else reason))

    def crashed(
        self,
        kind: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
        thread: str = "",
    ) -> None:
        """Records an unhandled exception; ``thread`` names the thread when the process continues without it."""
        pipeline = current.pipeline()
        if pipeline is None:
            return
        fields: dict[str, Any] = {
            **_process_fields(),
            **unhandled_fields(kind, error, trace),
        }
        if thread:
            fields["event.reason"] = f"unhandled in thread {thread}; the process goes on"
        else:
            fields["process.exit_code"] = 1
            self._crashed = True
        self._emit(pipeline, SERVICE_CRASHED, FAILURE, fields)

    def _emit(self, pipeline: Pipeline, kind: str, outcome: str, fields: dict[str, Any]) -> None:
        target = Target("service", pipeline.settings.service_name)
        try:
            event = AuditEvent(kind, outcome, actor=pipeline.actor, target=target, fields=fields)
            pipeline.emit(originate(event))
        except AuditRefusedError:  # the end of a service cannot be refused; the pipeline has counted it
            return

    def _on_crash(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            if issubclass(kind, KeyboardInterrupt):
                self.stop("SIGINT", 130)
            elif not issubclass(kind, SystemExit):
                self.crashed(kind, error, trace)
                self.stop("crash", 1)
        except Exception:  # noqa: BLE001, S110 - whatever mlaudit misses, the program's own report must appear
            pass
        finally:
            with already_reported():
                self._excepthook(kind, error, trace)

    def _on_thread_crash(self, arguments: threading.ExceptHookArgs) -> None:
        try:
            if not issubclass(arguments.exc_type, SystemExit):
                name = arguments.thread.name if arguments.thread is not None else "unknown"
                self.crashed(arguments.exc_type, arguments.exc_value, arguments.exc_traceback, name)
        except Exception:  # noqa: BLE001, S110 - see _on_crash
            pass
        finally:
            with already_reported():
                self._thread_hook(arguments)

    def _on_service_stopping(self) -> None:
        self.stop("shutdown of the web service")

    def _on_exit(self) -> None:
        if self._pipeline is not None:
            self.stop("exit")

    def _watch_sigterm(self) -> None:
        """Handles SIGTERM only without another handler; a server that sets its own later replaces this one."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._pipeline is None or (self._stopped and self._pipeline.stream is None):
            _die(number)
            return
        # In its own thread: this handler interrupts code that may hold the pipeline's locks.
        worker = threading.Thread(target=self._stop_and_die, args=(number,), name="mlaudit-stop", daemon=True)
        worker.start()
        if self._stop_recorded.wait(_PATIENCE):
            worker.join(self._pipeline.settings.shutdown_seconds + 1.0)
            _die(number)

    def _stop_and_die(self, number: int) -> None:
        try:
            self.stop("SIGTERM", 128 + number)
        finally:
            # Reaches the handler again, in the main thread, which then finds nothing left to do.
            os.kill(os.getpid(), number)

    def _watch_child(self) -> None:
        """A multiprocessing child ends with ``os._exit`` after running its finalizers."""
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, self.stop, args=("end of the worker process",), exitpriority=-100)

    def _after_fork(self) -> None:
        """Resets the state of a child, whose trail has not started; locks may be held by threads that do not exist."""
        self._pipeline = None
        self._stopped = self._crashed = False
        self._lock = threading.Lock()
        self._stop_recorded = threading.Event()
        self._before.clear()
        self._starts.after_fork()


def serves() -> bool:
    """Whether this process answers requests: it did, its service is up, or a server is imported."""
    return lifecycle.has_served or any(name in sys.modules for name in _SERVERS)


def _die(number: int) -> None:
    """Runs the default action of the signal."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _process_fields() -> dict[str, Any]:
    return {"process.executable": sys.executable or "", "process.parent.pid": os.getppid()}


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - may be gone
    except OSError:
        return ""


def _contained(pipeline: Pipeline, work: Callable[..., Any], *args: Any, instead: Any = None) -> Any:
    try:
        return work(*args)
    except Exception as error:  # noqa: BLE001 - a process that ends must end
        pipeline.fault(COMPONENT, error)
        return instead


lifecycle: Final = Lifecycle()
