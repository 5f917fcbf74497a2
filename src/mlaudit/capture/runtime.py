"""What watches the process itself: its life, its software, its configuration files, what its runtime is made to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit import pipeline
from mlaudit.capture import (
    audit_hooks,
    debugging,
    deployments,
    deserialization,
    environment,
    given_up,
    subprocesses,
)
from mlaudit.capture.aside import aside
from mlaudit.capture.config import ConfigWatcher
from mlaudit.capture.debug_sessions import sessions
from mlaudit.capture.error_reports import error_reports
from mlaudit.capture.lifecycle import lifecycle
from mlaudit.capture.watched_paths import watched_paths

if TYPE_CHECKING:
    from mlaudit.pipeline import Pipeline

_installed = False


def install() -> None:
    """Sets the hooks; what is to be told is told when the pipeline starts. Idempotent."""
    global _installed
    if _installed:
        return
    _installed = True
    lifecycle.install()
    deployments.install()
    deserialization.install()
    subprocesses.install()
    debugging.install()
    error_reports.install()
    pipeline.on_start(begin)


def begin(current: Pipeline) -> None:
    """Tells the start of the process, then what changed since the last one; watches from then on.

    Each part is contained: one that fails is told as a fault and costs no other.
    """
    software: dict[str, str] = {}
    try:
        software = environment.software()
    except Exception as error:  # noqa: BLE001 - see above
        current.fault(environment.COMPONENT, error)
    code = environment.digest(software) if software else ""
    lifecycle.started(current, code, software.get(environment.REVISION, ""))
    lifecycle.before_stop(deployments.deployments.stop)
    for ending in (sessions.end_all, error_reports.stop, watched_paths.stop, given_up.tell_all, aside.finish):
        lifecycle.before_stop(ending)
    sessions.reopen()
    audit_hooks.tell_pending(current)
    try:
        if software:
            environment.compare_with_last_start(current, software)
    except Exception as error:  # noqa: BLE001 - see above
        current.fault(environment.COMPONENT, error)
    try:
        watcher = ConfigWatcher(current)
        lifecycle.before_stop(watcher.stop)
        watcher.start()
    except Exception as error:  # noqa: BLE001 - see above
        current.fault("capture.config", error)
    try:
        watched_paths.watch(current)
    except Exception as error:  # noqa: BLE001 - see above
        current.fault(audit_hooks.COMPONENT, error)
