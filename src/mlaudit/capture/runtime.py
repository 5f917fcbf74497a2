"""What watches the process itself: its start, stop and crash, its software, its configuration files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit import pipeline
from mlaudit.capture import deployments, environment
from mlaudit.capture.config import ConfigWatcher
from mlaudit.capture.lifecycle import lifecycle

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
    lifecycle.started(current, environment.digest(software) if software else "")
    lifecycle.before_stop(deployments.deployments.stop)
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
