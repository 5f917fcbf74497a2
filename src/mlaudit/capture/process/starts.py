"""Detects whether a service starts for the first time, restarts, or adds a worker; and how it ended last time.

Each process of a service holds a mark (see ``liveness``) while it runs, and notes its end if it can. The process that
starts next finds the marks of living processes, which are other workers, and of dead ones without a noted end.
Process ids are not used: another process may have the id by now.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.process.liveness import Mark, is_alive
from mlaudit.deliver.spool.lock import boot_id
from mlaudit.pipeline.shared_file import Remembered

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

FIRST: Final = "first"
RESTART: Final = "restart"
BESIDE: Final = "beside"
KILLED: Final = "killed"
MACHINE: Final = "restart of the machine"


class Starts:
    """The start and the end of this process, among those of its service in the state folder."""

    def __init__(self) -> None:
        self._mark: Mark | None = None
        self._memory: Remembered | None = None

    def begin(self, pipeline: Pipeline) -> dict[str, Any]:
        """Registers this process, and returns the kind of start as fields of ``audit.service.started``.

        A worker that replaces a dead one is a restart even while others serve. The downtime
        is known only if the end was recorded.

        Raises:
            OSError, SpoolUnavailableError: the state folder cannot be used. ValueError: the memory is damaged.
        """
        settings = pipeline.settings
        self._memory = memory = Remembered.of_service(settings.state_dir, settings.service_name, "starts")
        folder = memory.path.with_suffix(".processes")
        with memory.exclusively() as content:
            running: dict[str, str] = content.setdefault("running", {})
            dead = [mark for mark in running if not is_alive(folder, mark)]
            boots = [running.pop(mark) for mark in dead]
            end = content.get("end") or {}
            fields: dict[str, Any] = {"audit.service.start": FIRST}
            if dead:
                boot = boot_id()
                fields["audit.service.start"] = RESTART
                # The first process that starts records an end that several share.
                fields["audit.service.previous.end"] = MACHINE if boot and boot not in boots else KILLED
            elif running:
                fields["audit.service.start"] = BESIDE
            elif end:
                fields["audit.service.start"] = RESTART
                fields["audit.service.previous.end"] = end["reason"]
                if (downtime := time.time_ns() - end["at"]) >= 0:
                    fields["audit.service.previous.downtime"] = downtime
            self._mark = Mark(folder)
            running[self._mark.name] = boot_id()
        return fields

    def end(self, reason: str) -> None:
        """Stores how this process ends.

        Raises:
            OSError, SpoolUnavailableError: the state folder cannot be used. ValueError: the memory is damaged.
        """
        mark, memory = self._mark, self._memory
        self._mark = None
        if mark is None or memory is None:
            return
        with memory.exclusively() as content:
            content.get("running", {}).pop(mark.name, None)
            content["end"] = {"reason": reason, "at": time.time_ns()}
        mark.drop()

    def after_fork(self) -> None:
        """Resets the state of a child, which does not own its parent's mark."""
        if self._mark is not None:
            self._mark.leave()
        self._mark = None
