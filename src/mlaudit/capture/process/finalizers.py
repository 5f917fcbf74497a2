"""Records the end of objects that are never closed: an open reader, a cursor, a transaction.

A finalizer may run at any allocation, also while the same thread seals another record: so it only submits the work to
a thread (see ``background``). Objects that are still open when the process ends are recorded before its end.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.process.background import background

if TYPE_CHECKING:
    from collections.abc import Callable

_open: Final[dict[int, Callable[[], None]]] = {}


class OnFinalize:
    """Runs ``callback`` once ``thing`` is finalized or the process ends, unless it was detached before.

    Args:
        thing: the object, to which only a weak reference is kept.
        callback: must contain its own faults, and must not refer to ``thing``.
    """

    def __init__(self, thing: Any, callback: Callable[[], None]) -> None:
        background.start()
        self._key = id(self)
        _open[self._key] = callback
        # This object lives as long as the finalizer, so its id is unique.
        self._finalizer = weakref.finalize(thing, self._submit)
        self._finalizer.atexit = False

    def detach(self) -> bool:
        """Cancels the callback, because the end is recorded otherwise; False when it already ran or is submitted."""
        self._finalizer.detach()
        return _open.pop(self._key, None) is not None

    def _submit(self) -> None:
        callback = _open.pop(self._key, None)
        if callback is not None:
            background.submit(callback)


def run_all() -> None:
    """Runs the callbacks of all open objects; at the end of the process."""
    while _open:
        _open.popitem()[1]()


# Open objects belong to the parent, which records them.
os.register_at_fork(after_in_child=_open.clear)
