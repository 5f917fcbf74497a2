"""What is told when it ends, and ends without saying so: an open reader, a cursor, a transaction nobody closes.

A finalizer may run at any allocation, also within the sealing of another record, on the same thread: it only leaves
the work to a thread (see ``aside``). What is still open when the process ends is told before its end is.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.process.background import aside

if TYPE_CHECKING:
    from collections.abc import Callable

_open: Final[dict[int, Callable[[], None]]] = {}


class GivenUp:
    """Has ``tell`` called once ``thing`` is gone or the process ends, unless its end was told before.

    Args:
        thing: what is watched, weakly.
        tell: contains its own faults, and must not refer to ``thing``.
    """

    def __init__(self, thing: Any, tell: Callable[[], None]) -> None:
        aside.start()
        self._key = id(self)
        _open[self._key] = tell
        # This object lives as long as the finalizer, so its id is nobody else's.
        self._finalizer = weakref.finalize(thing, self._leave)
        self._finalizer.atexit = False

    def detach(self) -> bool:
        """Its end is told by somebody else; False when it has been told, or left to be told, already."""
        self._finalizer.detach()
        return _open.pop(self._key, None) is not None

    def _leave(self) -> None:
        tell = _open.pop(self._key, None)
        if tell is not None:
            aside.do(tell)


def tell_all() -> None:
    """Tells whatever is open; at the end of the process."""
    while _open:
        _open.popitem()[1]()


# What is open is the parent's, and told by it.
os.register_at_fork(after_in_child=_open.clear)
