"""Which models a service has deployed: started, replaced, ended.

A deployment is a service and the name of a model. It starts when a process that serves has loaded the model, is
replaced when another artifact is loaded under the name, and ends when the last process that has the artifact releases
    it: the object is finalized, the process stops, or it died and a later process finds that. The processes of a
    service share the list of deployments (``<service>.deployments.json`` in the state folder), so four workers record
    each one once.

A process serves when it runs in a server (see ``lifecycle.serves``), when a web service in it reports that it is up,
or when it gets its first request. A job that loads models deploys none.

The garbage collector reports a finalized object, and may interrupt any line of any thread: the callback only queues an
entry, with two calls that need no lock, and a thread reads it. The thread waits first: a service that loads its model
again for every request serves it all the time.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture import request_context
from mlaudit.capture.models import known_models
from mlaudit.capture.models.deployed import STOPPED, UNLOADED, Deployed, Held
from mlaudit.capture.models.estimator_runs import model_fields
from mlaudit.capture.process import lifecycle
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.deployments"
GRACE_SECONDS: Final = 30.0


class Deployments:
    """The models that this process holds, and what it has recorded of them."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace = grace_seconds
        self._lock = threading.RLock()
        # Of finalized objects: their number and the time.
        self._notes: deque[tuple[int, int]] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        # By a number of our own: what ``id`` gives is given again.
        self._numbers = itertools.count()
        self._held: dict[int, Held] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._recorded: dict[str, Held] = {}
        self._serves = False
        self._thread: threading.Thread | None = None
        self._shared = Deployed()

    def loaded(self, model: Any, about: known_models.Known) -> None:
        """Records the deployment of a loaded model if this process serves. Contains its faults."""
        pipeline = current.pipeline()
        if pipeline is None or not about.name:
            return
        try:
            with self._lock:
                held = self._hold(model, about)
                if self._serves or lifecycle.serves():
                    self._begin(pipeline)
                    self._record(pipeline, held)
                else:
                    request_context.on_first_request(self._first_request)
            self.catch_up()
        except Exception as error:  # noqa: BLE001 - auditing never breaks the service
            pipeline.fault(COMPONENT, error)

    def ready(self) -> None:
        """The service is up: records what it holds, and the end of what only dead processes held."""
        pipeline = current.pipeline()
        if pipeline is None:
            return
        try:
            self.catch_up()
            with self._lock:
                self._serves = True
                if self._held:
                    self._begin(pipeline)
                self._shared.bury(pipeline)
                for held in {held.name: held for held in self._held.values()}.values():
                    self._record(pipeline, held)
        except Exception as error:  # noqa: BLE001 - see above
            pipeline.fault(COMPONENT, error)

    def stop(self) -> None:
        """The process ends in an orderly way, and with it what only it served."""
        pipeline = current.running()
        if pipeline is None:
            return
        try:
            self.catch_up()
            with self._lock:
                for held in tuple(self._recorded.values()):
                    self._end(pipeline, held, STOPPED)
                self._serves = False
                self._shared.leave()
        except Exception as error:  # noqa: BLE001 - a process that ends must end
            pipeline.fault(COMPONENT, error)

    def catch_up(self, grace_seconds: float = 0.0) -> None:
        """Processes the queued entries of the garbage collector that are at least so old."""
        latest = time.time_ns() - int(grace_seconds * 1e9)
        with self._lock:
            while self._notes and self._notes[0][1] <= latest:
                self._forget(*self._notes.popleft())

    def after_fork(self) -> None:
        """The child has its parent's models, but records its own deployments."""
        self._shared.after_fork()
        self._thread = None
        self._lock = threading.RLock()
        self._notes, self._wake = deque(), queue.SimpleQueue()
        self._recorded.clear()
        self._serves = False
        # The entries about these models go to the parent's queue.
        for number, reference in tuple(self._references.items()):
            model = reference()
            if model is None:
                del self._held[number], self._references[number]
            else:
                self._references[number] = self._refer(model, number)
        if self._held:
            request_context.on_first_request(self._first_request)

    def _first_request(self) -> None:
        """Not in the request's own time: it waits for a lock and a disk."""
        threading.Thread(target=self.ready, name="mlaudit-deployments-first", daemon=True).start()

    def _begin(self, pipeline: Pipeline) -> None:
        self._serves = True
        self._shared.join(pipeline)
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="mlaudit-deployments", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        wake = self._wake
        while True:
            wake.get()
            time.sleep(self._grace)
            try:
                self.catch_up(self._grace)
                if self._notes and wake.empty():
                    wake.put(None)
            except Exception as error:  # noqa: BLE001 - the thread goes on
                pipeline = current.running()
                if pipeline is not None:
                    pipeline.fault(COMPONENT, error)

    def _hold(self, model: Any, about: known_models.Known) -> Held:
        fields = {
            **model_fields(model, about.name, about),
            "ml.model.path": about.path,
            "ml.training.run_id": about.run_id,
        }
        held = Held(about.name, {name: value for name, value in fields.items() if value})
        number = next(self._numbers)
        try:
            self._references[number] = self._refer(model, number)
        except TypeError:
            # Its end will not be reported: it counts until another of its name is loaded.
            for other, earlier in tuple(self._held.items()):
                if earlier.name == held.name and other not in self._references:
                    del self._held[other]
        self._held[number] = held
        return held

    def _refer(self, model: Any, number: int) -> weakref.ref[Any]:
        note, wake = self._notes.append, self._wake.put

        def gone(_: weakref.ref[Any]) -> None:
            note((number, time.time_ns()))
            wake(None)

        return weakref.ref(model, gone)

    def _forget(self, number: int, moment: int) -> None:
        with self._lock:
            self._references.pop(number, None)
            gone = self._held.pop(number, None)
            if gone is None:
                return
            recorded = self._recorded.get(gone.name)
            pipeline = current.running()
            if pipeline is None or recorded is None or recorded.artifact != gone.artifact:
                return
            left = [held for held in self._held.values() if held.name == gone.name]
            if any(held.artifact == gone.artifact for held in left):
                return
            if left:
                # Another artifact of the name was loaded before and is still there: it answers again.
                self._record(pipeline, left[-1])
            else:
                self._end(pipeline, gone, UNLOADED, moment)

    def _record(self, pipeline: Pipeline, held: Held) -> None:
        recorded = self._recorded.get(held.name)
        if recorded is None or recorded.artifact != held.artifact:
            self._shared.record(pipeline, held)
            self._recorded[held.name] = held

    def _end(self, pipeline: Pipeline, held: Held, reason: str, moment: int = 0) -> None:
        self._recorded.pop(held.name, None)
        self._shared.release(pipeline, held, reason, moment)


deployments: Final = Deployments()


def install() -> None:
    """Begins to listen: to models that are loaded, to the start of the service, to forks. Call it once."""
    known_models.on_loaded(deployments.loaded)
    request_context.on_service_started(deployments.ready)
    os.register_at_fork(after_in_child=deployments.after_fork)
