"""Work that may not be done where it arises, because whoever is interrupted there may hold any lock.

The runtime calls an audit hook in the midst of whatever it does: under a debugger's lock, in the garbage collector, in
a log handler. A record made there needs the stream's lock, which another thread may hold that waits for the debugger or
the log handler. So the hook only puts a note into a queue that may be put into anywhere, and a thread reads it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAITING: Final = 10_000


class Aside:
    """One thread, and what waits for it. Without the thread, as before the trail begins, work is done at once."""

    def __init__(self) -> None:
        self._instead: Callable[[], None] | None = None
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a thread, so that nobody needs a lock where the work arises."""
        return self._thread is not None

    def start(self) -> None:
        """Starts the thread; not from an audit hook, where the start of a thread may wait for a debugger."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="mlaudit-runtime", daemon=True)
            self._thread.start()

    def do(
        self, work: Callable[[], None], patience: float = 0.0, instead: Callable[[], None] | None = None
    ) -> bool:
        """Has ``work`` done, which must contain its faults; returns whether it is done.

        Args:
            work: what to do.
            patience: seconds to wait for it.
            instead: what to do once there is room again, where too much waits already.
        """
        if self._thread is None or threading.current_thread() is self._thread:
            work()
            return True
        if self._queue.qsize() >= MAX_WAITING:
            self._instead = instead
            return False
        if not patience:
            self._queue.put(work)
            return False
        done = threading.Event()

        def both() -> None:
            try:
                work()
            finally:
                done.set()

        self._queue.put(both)
        return done.wait(patience)

    def finish(self, patience: float = 1.0) -> None:
        """Waits until what is in the queue now is done; work that comes later is done at once."""
        self.do(_nothing, patience)
        waiting, self._queue = self._queue, queue.SimpleQueue()
        self._thread = None
        with contextlib.suppress(queue.Empty):
            while True:
                _contained(waiting.get_nowait())
        waiting.put(_nothing)  # wakes the thread, which finds that it is no longer wanted

    def after_fork(self) -> None:
        """The thread is the parent's, and so is what waits for it."""
        self._queue = queue.SimpleQueue()
        self._thread = None

    def _read(self) -> None:
        waiting, own = self._queue, threading.current_thread()
        while self._thread is own:
            _contained(waiting.get())
            if self._instead is not None and waiting.empty():
                instead, self._instead = self._instead, None
                _contained(instead)


def _nothing() -> None:
    """What is in the queue before it is done."""


def _contained(work: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        work()


aside: Final = Aside()
os.register_at_fork(after_in_child=aside.after_fork)
