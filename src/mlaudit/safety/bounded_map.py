"""A map of limited size: keys that clients choose cannot fill the memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedMap(MutableMapping[Key, Value]):
    """A dictionary that forgets what was set the longest time ago.

    It has no lock, so that it can be used in audit hooks and signal handlers. Threads at once break nothing and raise
    nothing; each may set one value beyond the limit, which the next one forgets.

    Args:
        limit: how many values are kept.
    """

    __slots__ = ("_limit", "_values")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[Key, Value] = {}

    def __getitem__(self, key: Key) -> Value:
        return self._values[key]

    def __setitem__(self, key: Key, value: Value) -> None:
        values = self._values
        values.pop(key, None)
        while len(values) >= self._limit:
            try:
                values.pop(next(iter(values)), None)
            except (RuntimeError, StopIteration):  # another thread was faster
                continue
        values[key] = value

    def __delitem__(self, key: Key) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def pop(self, key: Key, *default: Any) -> Any:
        """Forgets a key and returns its value; as ``dict.pop``, in one step."""
        return self._values.pop(key, *default)

    def clear(self) -> None:
        """Forgets everything."""
        self._values.clear()
