"""Records of what ended without being told: made by a thread, never by the runtime's collector itself.

A finalizer may run at any allocation, also within the sealing of another record, on the same thread. What is to be
recorded then is only put into a queue, which is safe at any point.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("mlaudit")
_work: Final[queue.SimpleQueue[Callable[[], object]]] = queue.SimpleQueue()
_starting = threading.Lock()
_threads: list[threading.Thread] = []


def ready() -> None:
    """Starts the thread, if there is none in this process; to be called before ``later`` may be, by ordinary code."""
    if _threads and _threads[-1].is_alive():
        return
    with _starting:
        if not _threads or not _threads[-1].is_alive():
            # A forked child has the list, not the thread.
            thread = threading.Thread(target=_run, name="mlaudit-later", daemon=True)
            _threads[:] = [thread]
            thread.start()


def later(work: Callable[[], object]) -> None:
    """Has it done soon, in order; for finalizers."""
    _work.put(work)


def settle(seconds: float) -> bool:
    """Waits until what was put so far is done; False when it takes longer."""
    ready()
    done = threading.Event()
    later(done.set)
    return done.wait(seconds)


def _run() -> None:
    while True:
        work = _work.get()
        try:
            work()
        except Exception:  # noqa: BLE001 - contained: the next one is done
            _log.exception("mlaudit: a record that was due later failed")
        del work
