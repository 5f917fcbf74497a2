"""Watches the process itself: its life cycle, its software, its configuration files, its runtime events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.capture.models import deployments
from mlaudit.capture.process import (
    audit_hooks,
    debugging,
    deserialization,
    environment,
    finalizers,
    subprocesses,
)
from mlaudit.capture.process.background import background
from mlaudit.capture.process.config_files import ConfigWatcher
from mlaudit.capture.process.debug_sessions import sessions
from mlaudit.capture.process.error_reports import error_reports
from mlaudit.capture.process.lifecycle import lifecycle
from mlaudit.capture.process.watched_paths import watched_paths
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

_installed = False


def install() -> None:
    """Sets the hooks; what they find is recorded when the pipeline starts. Idempotent."""
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
    current.on_start(begin)


def begin(pipeline: Pipeline) -> None:
    """Records the start of the process, then what changed since the last start; watches from then on.

    Each part is contained: one that fails is reported as a fault and does not affect the others.
    """
    software: dict[str, str] = {}
    try:
        software = environment.software()
    except Exception as error:  # noqa: BLE001 - see above
        pipeline.fault(environment.COMPONENT, error)
    code = environment.digest(software) if software else ""
    lifecycle.started(pipeline, code, software.get(environment.REVISION, ""))
    lifecycle.before_stop(deployments.deployments.stop)
    for ending in (
        sessions.end_all,
        error_reports.stop,
        watched_paths.stop,
        finalizers.run_all,
        background.finish,
    ):
        lifecycle.before_stop(ending)
    sessions.reopen()
    audit_hooks.record_pending(pipeline)
    try:
        if software:
            environment.compare_with_last_start(pipeline, software)
    except Exception as error:  # noqa: BLE001 - see above
        pipeline.fault(environment.COMPONENT, error)
    try:
        watcher = ConfigWatcher(pipeline)
        lifecycle.before_stop(watcher.stop)
        watcher.start()
    except Exception as error:  # noqa: BLE001 - see above
        pipeline.fault("capture.config", error)
    try:
        watched_paths.watch(pipeline)
    except Exception as error:  # noqa: BLE001 - see above
        pipeline.fault(audit_hooks.COMPONENT, error)
