"""Remembering something about objects of other libraries for as long as they live, without touching them."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class ByIdentity(Generic[_T]):
    """A dictionary whose keys are objects themselves: they may define ``__eq__`` without ``__hash__``."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], _T]] = {}

    def remember(self, key: Any, value: _T) -> bool:
        """Remembers ``value`` for as long as ``key`` lives; False when it cannot be referred to weakly."""
        place = id(key)

        def forget(reference: weakref.ref[Any]) -> None:
            entry = self._entries.get(place)
            # The id may have been given to another object by now.
            if entry is not None and entry[0] is reference:
                del self._entries[place]

        try:
            reference = weakref.ref(key, forget)
        except TypeError:
            return False
        self._entries[place] = (reference, value)
        return True

    def get(self, key: Any) -> _T | None:
        """What is remembered about the object, else None."""
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None
