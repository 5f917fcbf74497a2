"""What the capture hooks share: the actor, the current request and the current run.

The context variables hold *mutable* objects on purpose: a web framework runs an endpoint in a copy of the
context (a thread pool, a task), so what an endpoint *sets* is lost to the layer around it, what it *writes into*
is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlaudit.event import Target

if TYPE_CHECKING:
    from mlaudit.capture.credentials import Credential, Failure
    from mlaudit.event import Actor

_log = logging.getLogger("mlaudit")


@dataclass(slots=True)
class ModelUse:
    """One answer of one model, as a library hook saw it; empty text and None stand for "not known".

    Attributes:
        name, version: what the model registry of the policy or the artifact calls it.
        cls: the class, e.g. ``sklearn.linear_model._logistic.LogisticRegression``.
        library, library_version: e.g. ``scikit-learn`` and ``1.9.0``.
        digest: SHA-256 (hex) of the artifact it was loaded from.
        method: what was called, e.g. ``predict_proba``.
        rows, features: the shape of the input.
        input_digest, output_digest: SHA-256 (hex) of what went in and came out.
        duration_ns: how long the model took.
        failed: the model raised; ``error`` is then the exception's class name.
        fields: more catalog fields at metadata level, e.g. ``ml.model.registration``.
        inputs, outputs: catalog fields that only the levels ``inputs`` and ``full`` ask for.
    """

    name: str = ""
    version: str = ""
    cls: str = ""
    library: str = ""
    library_version: str = ""
    digest: str = ""
    method: str = "predict"
    rows: int | None = None
    features: int | None = None
    input_digest: str = ""
    output_digest: str = ""
    duration_ns: int | None = None
    failed: bool = False
    error: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def named(self) -> dict[str, Any]:
        """What is known of the model and its answer, as catalog fields."""
        known: dict[str, Any] = {
            "ml.model.name": self.name,
            "ml.model.version": self.version,
            "ml.model.class": self.cls,
            "ml.model.library": self.library,
            "ml.model.library_version": self.library_version,
            "ml.model.digest": self.digest,
            "ml.prediction.method": self.method,
            "ml.prediction.rows": self.rows,
            "ml.prediction.features": self.features,
            "ml.prediction.input.digest": self.input_digest,
            "ml.prediction.output.digest": self.output_digest,
        }
        known = {name: value for name, value in known.items() if value not in ("", None)}
        if self.rows is not None:
            known["ml.prediction.batch"] = self.rows > 1
        return known

    def is_known(self) -> bool:
        """Whether the model has a name of its own: one that was never saved or loaded is named after its class."""
        return bool(self.version) or (bool(self.name) and self.name != self.cls.rpartition(".")[2])

    def target(self) -> Target | None:
        """The model as what was acted on, ``name@version``; None when it has no name."""
        name = self.name or self.cls
        return Target("model", f"{name}@{self.version}" if self.version else name) if name else None


class RequestTrail:
    """What hooks inside one request pass to the layer that writes the request's record.

    A model hook that finds a current trail appends its ``ModelUse`` instead of emitting a record of its own:
    the request's record carries it. ``mlaudit.actor(...)`` sets ``actor`` besides the context variable, so that
    an actor stated in a dependency or a thread is known to the request's record too.
    ``credentials`` and ``failures`` are what was presented and verified, and what was not accepted (see
    ``authentication``).
    ``closed`` is true once the request's record is written: a background task that still sees the trail then
    emits records of its own.
    """

    # Defaults of the class, not set in each instance: one of these is made for every request.
    actor: Actor | None = None
    route = ""
    kind = ""
    closed = False
    credentials: tuple[Credential, ...] = ()
    failures: tuple[Failure, ...] = ()

    def __init__(self) -> None:
        self.models: list[ModelUse] = []
        if _first_request:
            _run_once(_first_request)


@dataclass(slots=True)
class TrainingRun:
    """A training run stated by ``mlaudit.training_run(...)``; library hooks inside it write into it."""

    run_id: str
    name: str = ""
    parent_run_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


current_actor: ContextVar[Actor | None] = ContextVar("mlaudit_actor", default=None)
current_request: ContextVar[RequestTrail | None] = ContextVar("mlaudit_request", default=None)
current_run: ContextVar[TrainingRun | None] = ContextVar("mlaudit_run", default=None)
current_purpose: ContextVar[str | None] = ContextVar("mlaudit_purpose", default=None)


def open_trail() -> RequestTrail | None:
    """The trail of the request under way, or None outside of a request and after its record was written."""
    trail = current_request.get()
    return None if trail is None or trail.closed else trail


Callback = Callable[[], None]
_started: list[Callback] = []
_stopping: list[Callback] = []
_first_request: list[Callback] = []


def on_service_started(callback: Callback) -> None:
    """Registers what runs when a web service says that its startup is complete (ASGI lifespan)."""
    if callback not in _started:
        _started.append(callback)


def on_service_stopping(callback: Callback) -> None:
    """Registers what runs when a web service says that its shutdown is complete (ASGI lifespan).

    Requests are over by then. The callbacks run in a thread and may block for ``MLAUDIT_SHUTDOWN_SECONDS``: the
    server waits for them.
    """
    if callback not in _stopping:
        _stopping.append(callback)


def on_first_request(callback: Callback) -> None:
    """Registers what runs, once, when the next request comes; in the request's own time, so it must be quick."""
    if callback not in _first_request:
        _first_request.append(callback)


def service_started() -> None:
    """Runs the callbacks of ``on_service_started``; a fault in one is logged and contained."""
    _run(_started)


def service_stopping() -> None:
    """Runs the callbacks of ``on_service_stopping``; a fault in one is logged and contained."""
    _run(_stopping)


def _run_once(callbacks: list[Callback]) -> None:
    due = tuple(callbacks)
    callbacks.clear()
    _run(due)


def _run(callbacks: Iterable[Callback]) -> None:
    for callback in tuple(callbacks):
        try:
            callback()
        except Exception:  # noqa: BLE001 - contained: auditing never breaks the service
            _log.exception("mlaudit: a lifecycle callback failed")
