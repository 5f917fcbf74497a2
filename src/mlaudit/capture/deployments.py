"""Which models a service has ready to answer: started, replaced, ended.

A deployment is a service and the name of a model. It starts when a process that serves has loaded the model, is
replaced when another artifact is loaded under the name, and ends when the last process that has the artifact lets go
of it: the object is gone, the process stops, or it died and a later one finds that. What runs is shared between the
processes of a service (``<service>.deployments.json`` in the state folder), so four workers tell it once.

A process serves when it runs in a server (see ``lifecycle.serves``), when a web service in it says that it is up, or
when it gets its first request. A job that loads models deploys none.

That an object is gone is heard from the garbage collector, which may interrupt any line of any thread: the callback
only puts a note into a queue that may be put into anywhere, and a thread reads it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit import pipeline
from mlaudit.capture import interface, lifecycle
from mlaudit.capture.libraries import known
from mlaudit.capture.libraries.training import model_fields
from mlaudit.capture.origin import originate
from mlaudit.capture.remembered import Remembered
from mlaudit.capture.serving import Mark, is_alive, sweep
from mlaudit.errors import AuditRefusedError
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.pipeline import Pipeline

STARTED: Final = "audit.ml.deployment.started"
REPLACED: Final = "audit.ml.deployment.replaced"
ENDED: Final = "audit.ml.deployment.ended"
COMPONENT: Final = "capture.deployments"
UNLOADED: Final = "the model is no longer in memory"
STOPPED: Final = "the service stopped"
DIED: Final = "the process that served it ended without saying so"
_KEPT: Final = ("ml.model.version", "ml.model.digest", "ml.model.path", "ml.training.run_id")


class _Held(NamedTuple):
    """A model object of this process: what its deployment's records say of it."""

    name: str
    fields: dict[str, Any]

    @property
    def artifact(self) -> str:
        """Tells one artifact from another."""
        return f"{self.fields.get('ml.model.version', '')}:{self.fields.get('ml.model.digest', '')}"


class Deployments:
    """The models that this process holds, and what it has told of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._notes: queue.SimpleQueue[int] = queue.SimpleQueue()
        # By a number of our own: what ``id`` gives is given again.
        self._numbers = itertools.count()
        self._held: dict[int, _Held] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._told: dict[str, _Held] = {}
        self._serves = False
        self._thread: threading.Thread | None = None
        self._mark: Mark | None = None

    def loaded(self, model: Any, about: known.Known) -> None:
        """A model was loaded; tells its deployment where this process serves. Contains its faults."""
        current = pipeline.current()
        if current is None or not about.name:
            return
        try:
            self.catch_up()
            with self._lock:
                held = self._hold(model, about)
                if self._serves or lifecycle.serves():
                    self._begin(current)
                    self._tell(current, held)
                else:
                    interface.on_first_request(self._first_request)
        except Exception as error:  # noqa: BLE001 - auditing never breaks the service
            current.fault(COMPONENT, error)

    def ready(self) -> None:
        """The service is up: tells what it holds, and what an earlier process held and nobody does now."""
        current = pipeline.current()
        if current is None:
            return
        try:
            self.catch_up()
            with self._lock:
                self._serves = True
                if self._held:
                    self._begin(current)
                memory = self._memory(current)
                if memory.path.exists():
                    with memory.exclusively() as deployments:
                        self._bury(current, deployments)
                    sweep(self._folder(current))
                for held in {held.name: held for held in self._held.values()}.values():
                    self._tell(current, held)
        except Exception as error:  # noqa: BLE001 - see above
            current.fault(COMPONENT, error)

    def stop(self) -> None:
        """The process ends in an orderly way, and with it what only it served."""
        current = pipeline.running()
        if current is None:
            return
        try:
            self.catch_up()
            with self._lock:
                for held in tuple(self._told.values()):
                    self._release(current, held, STOPPED)
                self._serves = False
                if self._mark is not None:
                    self._mark.drop()
                    self._mark = None
        except Exception as error:  # noqa: BLE001 - a process that ends must end
            current.fault(COMPONENT, error)

    def catch_up(self) -> None:
        """Does what the garbage collector has left notes about."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._forget(self._notes.get_nowait())

    def after_fork(self) -> None:
        """The child has its parent's models, but tells its own story."""
        if self._mark is not None:
            self._mark.leave()
        self._mark = self._thread = None
        self._lock = threading.RLock()
        self._notes = queue.SimpleQueue()
        self._told.clear()
        self._serves = False
        # The notes about these models go to the parent's queue.
        for number, reference in tuple(self._references.items()):
            model = reference()
            if model is None:
                del self._held[number], self._references[number]
            else:
                self._references[number] = self._refer(model, number)
        if self._held:
            interface.on_first_request(self._first_request)

    def _first_request(self) -> None:
        """Not in the request's own time: it waits for a lock and a disk."""
        threading.Thread(target=self.ready, name="mlaudit-deployments-first", daemon=True).start()

    def _begin(self, current: Pipeline) -> None:
        self._serves = True
        if self._mark is None:
            self._mark = Mark(self._folder(current))
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="mlaudit-deployments", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        notes = self._notes
        while True:
            try:
                self._forget(notes.get())
            except Exception as error:  # noqa: BLE001 - the thread goes on
                current = pipeline.running()
                if current is not None:
                    current.fault(COMPONENT, error)

    def _hold(self, model: Any, about: known.Known) -> _Held:
        fields = {
            **model_fields(model, about.name, about),
            "ml.model.path": about.path,
            "ml.training.run_id": about.run_id,
        }
        held = _Held(about.name, {name: value for name, value in fields.items() if value})
        number = next(self._numbers)
        try:
            self._references[number] = self._refer(model, number)
        except TypeError:
            # Nothing will say that it is gone: it counts until another of its name comes.
            for other, earlier in tuple(self._held.items()):
                if earlier.name == held.name and other not in self._references:
                    del self._held[other]
        self._held[number] = held
        return held

    def _refer(self, model: Any, number: int) -> weakref.ref[Any]:
        put = self._notes.put
        return weakref.ref(model, lambda _: put(number))

    def _forget(self, number: int) -> None:
        with self._lock:
            self._references.pop(number, None)
            gone = self._held.pop(number, None)
            if gone is None:
                return
            told = self._told.get(gone.name)
            current = pipeline.running()
            if current is None or told is None or told.artifact != gone.artifact:
                return
            left = [held for held in self._held.values() if held.name == gone.name]
            if any(held.artifact == gone.artifact for held in left):
                return
            if left:
                # Another artifact of the name was loaded before and is still there: it answers again.
                self._tell(current, left[-1])
            else:
                self._release(current, gone, UNLOADED)

    def _tell(self, current: Pipeline, held: _Held) -> None:
        if (told := self._told.get(held.name)) is not None and told.artifact == held.artifact:
            return
        with self._memory(current).exclusively() as deployments:
            self._bury(current, deployments)
            entry = deployments.setdefault(held.name, {"artifact": "", "fields": {}, "holders": {}})
            if entry["artifact"] and entry["artifact"] != held.artifact:
                self._emit(current, REPLACED, held, before=entry["fields"])
            elif not entry["holders"]:
                self._emit(current, STARTED, held)
            entry["artifact"] = held.artifact
            entry["fields"] = {name: held.fields[name] for name in _KEPT if name in held.fields}
            entry["holders"][self._own_mark()] = held.artifact
        self._told[held.name] = held

    def _release(self, current: Pipeline, held: _Held, reason: str) -> None:
        self._told.pop(held.name, None)
        with self._memory(current).exclusively() as deployments:
            entry = deployments.get(held.name)
            if entry is None or entry["holders"].pop(self._own_mark(), None) is None:
                return
            if not entry["holders"]:
                self._emit(current, ENDED, held, reason=reason)

    def _bury(self, current: Pipeline, deployments: dict[str, Any]) -> None:
        """Ends what only dead processes served."""
        folder = self._folder(current)
        for name, entry in deployments.items():
            dead = [
                mark for mark in entry["holders"] if mark != self._own_mark() and not is_alive(folder, mark)
            ]
            for mark in dead:
                del entry["holders"][mark]
            if dead and not entry["holders"]:
                fields = {"ml.model.name": name, **entry["fields"]}
                self._emit(current, ENDED, _Held(name, fields), reason=DIED)

    def _own_mark(self) -> str:
        return "" if self._mark is None else self._mark.name

    def _emit(
        self, current: Pipeline, kind: str, held: _Held, *, before: Any = None, reason: str = ""
    ) -> None:
        settings = current.settings
        fields = {
            **held.fields,
            "ml.deployment.id": f"{settings.service_name}/{held.name}",
            "event.reason": reason,
        }
        if kind == ENDED:
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
            current.emit(originate(AuditEvent(kind, target=target, fields=present)))

    @staticmethod
    def _memory(current: Pipeline) -> Remembered:
        settings = current.settings
        return Remembered.of_service(settings.state_dir, settings.service_name, "deployments")

    def _folder(self, current: Pipeline) -> Path:
        return self._memory(current).path.with_suffix(".processes")


deployments: Final = Deployments()


def install() -> None:
    """Begins to listen: to models that are loaded, to the start of the service, to forks. Call it once."""
    known.on_loaded(deployments.loaded)
    interface.on_service_started(deployments.ready)
    os.register_at_fork(after_in_child=deployments.after_fork)
