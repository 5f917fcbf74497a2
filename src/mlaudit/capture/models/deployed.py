"""What the processes of a service have deployed together, and the records of it.

``<service>.deployments.json`` in the state folder: name of the model → what serves under it, and the marks of the
processes that have it (see ``liveness``).
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.capture.origin import originate
from mlaudit.capture.process.liveness import Mark, is_alive, sweep
from mlaudit.catalog.names import ML_DEPLOYMENT_ENDED, ML_DEPLOYMENT_REPLACED, ML_DEPLOYMENT_STARTED
from mlaudit.errors import AuditRefusedError
from mlaudit.event import AuditEvent, Target
from mlaudit.pipeline.shared_file import Remembered

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.pipeline.pipeline import Pipeline

UNLOADED: Final = "the model is no longer in memory"
STOPPED: Final = "the service stopped"
DIED: Final = "the process that served it ended without saying so"
# Not the path, which may say more than a record would be allowed to.
_KEPT: Final = ("ml.model.version", "ml.model.digest", "ml.training.run_id")


class Held(NamedTuple):
    """A model object of this process: what the records of its deployment contain."""

    name: str
    fields: dict[str, Any]

    @property
    def artifact(self) -> str:
        """Identifies an artifact."""
        return f"{self.fields.get('ml.model.version', '')}:{self.fields.get('ml.model.digest', '')}"


class Deployed:
    """This process's part in what its service has deployed; not thread-safe by itself.

    Every method may raise OSError, SpoolUnavailableError or ValueError when the state folder cannot be used.
    """

    def __init__(self) -> None:
        self._mark: Mark | None = None

    def join(self, pipeline: Pipeline) -> None:
        """This process serves from now on."""
        if self._mark is None:
            self._mark = Mark(self._folder(pipeline))

    def leave(self) -> None:
        """This process no longer serves."""
        if self._mark is not None:
            self._mark.drop()
            self._mark = None

    def after_fork(self) -> None:
        """The child has no part of its own yet, and keeps its parent's no longer than the parent does."""
        if self._mark is not None:
            self._mark.leave()
            self._mark = None

    def bury(self, pipeline: Pipeline) -> None:
        """Ends what only dead processes served."""
        memory = self._memory(pipeline)
        if memory.path.exists():
            with memory.exclusively() as deployments:
                self._bury(pipeline, deployments)
            sweep(self._folder(pipeline))

    def record(self, pipeline: Pipeline, held: Held) -> None:
        """This process has the model; records it if the service had none, or another, under the name."""
        with self._memory(pipeline).exclusively() as deployments:
            self._bury(pipeline, deployments)
            entry = deployments.setdefault(held.name, {"artifact": "", "fields": {}, "holders": {}})
            if entry["artifact"] and entry["artifact"] != held.artifact:
                self._emit(pipeline, ML_DEPLOYMENT_REPLACED, held, before=entry["fields"])
            elif not entry["holders"]:
                self._emit(pipeline, ML_DEPLOYMENT_STARTED, held)
            entry["artifact"] = held.artifact
            entry["fields"] = {name: held.fields[name] for name in _KEPT if name in held.fields}
            entry["holders"][self._own_mark()] = held.artifact

    def release(self, pipeline: Pipeline, held: Held, reason: str, moment: int = 0) -> None:
        """This process released it at ``moment`` (nanoseconds); records the end if it was the last one."""
        with self._memory(pipeline).exclusively() as deployments:
            entry = deployments.get(held.name)
            if entry is None or entry["holders"].pop(self._own_mark(), None) is None:
                return
            if not entry["holders"]:
                self._emit(pipeline, ML_DEPLOYMENT_ENDED, held, reason=reason, moment=moment)

    def _bury(self, pipeline: Pipeline, deployments: dict[str, Any]) -> None:
        folder = self._folder(pipeline)
        for name, entry in deployments.items():
            dead = [
                mark for mark in entry["holders"] if mark != self._own_mark() and not is_alive(folder, mark)
            ]
            for mark in dead:
                del entry["holders"][mark]
            if dead and not entry["holders"]:
                fields = {"ml.model.name": name, **entry["fields"]}
                self._emit(pipeline, ML_DEPLOYMENT_ENDED, Held(name, fields), reason=DIED)

    def _own_mark(self) -> str:
        return "" if self._mark is None else self._mark.name

    def _emit(
        self,
        pipeline: Pipeline,
        kind: str,
        held: Held,
        *,
        before: Any = None,
        reason: str = "",
        moment: int = 0,
    ) -> None:
        settings = pipeline.settings
        fields = {
            **held.fields,
            "ml.deployment.id": f"{settings.service_name}/{held.name}",
            "event.reason": reason,
        }
        if kind == ML_DEPLOYMENT_ENDED:
            fields.pop("ml.training.run_id", None)
        else:
            before = before or {}
            fields |= {
                "ml.model.previous.version": before.get("ml.model.version", ""),
                "ml.model.previous.digest": before.get("ml.model.digest", ""),
                "ml.model.previous.run_id": before.get("ml.training.run_id", ""),
                "ml.change.ticket": settings.change_ticket,
                "ml.change.approver": settings.change_approver,
            }
        version = held.fields.get("ml.model.version", "")
        target = Target("model", f"{held.name}@{version}" if version else held.name)
        present = {name: value for name, value in fields.items() if value}
        with contextlib.suppress(AuditRefusedError):  # it has happened; the pipeline has counted it
            event = AuditEvent(kind, target=target, fields=present, timestamp=moment or time.time_ns())
            pipeline.emit(originate(event))

    @staticmethod
    def _memory(pipeline: Pipeline) -> Remembered:
        settings = pipeline.settings
        return Remembered.of_service(settings.state_dir, settings.service_name, "deployments")

    def _folder(self, pipeline: Pipeline) -> Path:
        return self._memory(pipeline).path.with_suffix(".processes")
