"""Whether a service starts for the first time, again, or beside itself; and how it ended last time.

Each process of a service holds a mark (see ``serving``) while it runs, and notes its end when it can say it. Whoever
starts next finds the marks of the living, which are workers beside it, and of the dead, which ended without a word.
Numbers of processes prove nothing: another may have the number by now.
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
        """Takes part, and tells what kind of start this is, as fields of ``audit.service.started``.

        A worker that takes the place of one that died is a restart also while others serve on. How long nobody ran
        is known only where the end was told.

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
                # An end that several met at once is told by the first that starts.
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
        """Notes how this process ends.

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
        """The child has not started yet; its parent's mark is not its own."""
        if self._mark is not None:
            self._mark.leave()
        self._mark = None
