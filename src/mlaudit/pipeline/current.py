"""The pipeline of this process: assembled from the settings, started on first use, restarted in a forked child."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from mlaudit.errors import MlauditError
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.safety.printable import safe_lines
from mlaudit.settings import Settings, is_enabled

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("mlaudit")

_start_lock = threading.RLock()
_current: Pipeline | None = None
_failed = False
_starting = False
_parent_stream = ""
_callbacks: list[Callable[[Pipeline], None]] = []


def open_pipeline(settings: Settings, parent_stream: str = "") -> Pipeline:
    """A pipeline with the spool and the receiver that the settings name.

    Args:
        settings: the settings; see docs/settings.md.
        parent_stream: the stream of the process that this one was forked from, or "".

    Raises:
        PolicyError, KeyFileError: the policy or the pseudonym key cannot be loaded.
    """
    # Imported here: a process whose hooks are never called does not pay for spool, keys and transport.
    from mlaudit.pipeline.backend import SpoolBackend

    return Pipeline(settings, SpoolBackend(settings), parent_stream)


def pipeline() -> Pipeline | None:
    """The pipeline of this process, started on first use.

    None when auditing is off, or when settings, policy or keys are invalid: this is reported once, on stderr and in
    the log, and is not retried.
    """
    return _current or (None if _failed else _start())


def running() -> Pipeline | None:
    """The pipeline of this process if it has started; never starts one."""
    return _current


def on_start(callback: Callable[[Pipeline], None]) -> None:
    """Registers a callback that runs right after a pipeline has started, in every process; now, if it already has."""
    with _start_lock:
        _callbacks.append(callback)
        started = _current
    if started is not None:
        callback(started)


def install(pipeline: Pipeline | None) -> Pipeline | None:
    """Makes ``pipeline`` the current one and returns the previous one; for tests and embedding."""
    global _current, _failed
    with _start_lock:
        previous, _current = _current, pipeline
        _failed = False
    return previous


def _start() -> Pipeline | None:
    global _current, _failed, _starting
    if not is_enabled():
        return None
    with _start_lock:
        if _current is not None or _failed or _starting:
            return _current  # _starting: called by logging or tracing while the pipeline is built
        _starting = True
        try:
            settings = Settings.from_env()
            if settings.exposed:
                _logger.warning(
                    "records are sent unprotected, which MLAUDIT_INSECURE allows: %s", settings.exposed
                )
            started = open_pipeline(settings, _parent_stream)
        except (MlauditError, OSError) as error:
            _failed = True
            print(f"mlaudit: AUDITING IS OFF: {safe_lines(str(error))}", file=sys.stderr)  # noqa: T201 - logging may not be set up
            _logger.critical("auditing is off: %s", error)
            return None
        finally:
            _starting = False
        _current = started
        try:
            started.open()
        except MlauditError as error:
            _logger.error("the audit spool cannot be opened yet: %s", error)
        for callback in _callbacks:
            try:
                callback(started)
            except Exception as error:  # noqa: BLE001 - auditing never breaks the service
                started.fault("start", error)
    return started


def _after_fork_in_child() -> None:
    """A child starts its own stream; the parent's chain, locks and threads stay with the parent."""
    global _current, _failed, _starting, _start_lock, _parent_stream
    _start_lock = threading.RLock()
    _failed = _starting = False
    parent, _current = _current, None
    if parent is None or parent.stream is None:
        return
    _parent_stream = parent.stream.id
    parent.stream.delivery.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
