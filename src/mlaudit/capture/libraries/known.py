"""What is known about model objects in this process: which artifact they came from, which run trained them.

Nothing is written into the objects: an attribute would travel into their next pickle and change its digest.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Final

from mlaudit.capture.libraries.estimators import is_estimator

MAX_CONTAINED: Final = 100


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about one model object; empty text stands for "not known"."""

    name: str = ""
    version: str = ""
    digest: str = ""
    path: str = ""
    run_id: str = ""


NOTHING: Final = Known()
# By identity: estimators may define __eq__ without __hash__.
_models: dict[int, tuple[weakref.ref[Any], Known]] = {}


def know(model: Any, known: Known) -> bool:
    """Remembers ``known`` for as long as the object lives; False when it cannot be referred to weakly."""
    key = id(model)

    def forget(reference: weakref.ref[Any]) -> None:
        entry = _models.get(key)
        # The id may have been given to another object by now.
        if entry is not None and entry[0] is reference:
            del _models[key]

    try:
        reference = weakref.ref(model, forget)
    except TypeError:
        return False
    _models[key] = (reference, known)
    return True


def about(model: Any) -> Known:
    """What is known about the object."""
    entry = _models.get(id(model))
    return entry[1] if entry is not None and entry[0]() is model else NOTHING


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
        if is_estimator(candidate) or about(candidate) is not NOTHING
    ]
