"""What is known about model objects in this process: which artifact they came from, which run trained them.

Nothing is written into the objects: an attribute would travel into their next pickle and change its digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.models.estimators import is_estimator
from mlaudit.capture.weak_memory import ByIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_CONTAINED: Final = 100


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about one model object; empty text stands for "not known".

    Attributes:
        name, version: what it is called where it was saved, loaded or registered.
        digest: SHA-256 (hex) of the artifact.
        path: where the artifact is.
        run_id: the training run that made it.
        dataset: digest of the data that the run was given.
        metrics: what is known of how good it is, by name.
        loaded: it came from an artifact; ``run_id`` is then a run of the past.
    """

    name: str = ""
    version: str = ""
    digest: str = ""
    path: str = ""
    run_id: str = ""
    dataset: str = ""
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    loaded: bool = False


NOTHING: Final = Known()
_models: Final[ByIdentity[Known]] = ByIdentity()
_listeners: list[Callable[[Any, Known], None]] = []


def remember(model: Any, known: Known) -> bool:
    """Remembers ``known`` for as long as the object lives; False when it cannot be referred to weakly."""
    return _models.remember(model, known)


def loaded(model: Any, known: Known) -> bool:
    """As ``remember``, for a model that was just loaded from an artifact; calls the listeners of ``on_loaded``."""
    known = replace(known, loaded=True)
    remembered = remember(model, known)
    for listener in _listeners:
        listener(model, known)
    return remembered


def on_loaded(listener: Callable[[Any, Known], None]) -> None:
    """Registers what runs with every model that is loaded, and what is known of it; it must contain its faults."""
    if listener not in _listeners:
        _listeners.append(listener)


def lookup(model: Any) -> Known:
    """What is known about the object."""
    return _models.get(model) or NOTHING


def models_in(value: Any) -> list[Any]:
    """The model objects in ``value``: itself, or what a dict, list, tuple or plain object holds at its top level."""
    if is_estimator(value):
        return [value]
    if isinstance(value, dict):
        candidates = list(value.values())
    elif isinstance(value, list | tuple):
        candidates = list(value[:MAX_CONTAINED])
    elif isinstance(attributes := getattr(value, "__dict__", None), dict):
        # The user's own class around an estimator.
        candidates = [value, *attributes.values()]
    else:
        candidates = [value]
    return [
        candidate
        for candidate in candidates[:MAX_CONTAINED]
        if is_estimator(candidate) or lookup(candidate) is not NOTHING
    ]
