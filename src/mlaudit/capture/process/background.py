"""Runs work in a background thread, because the interrupted code may hold any lock.

The runtime calls an audit hook in the middle of other code: under a debugger's lock, in the garbage collector, in a
log handler. A record made there needs the stream's lock, which another thread may hold while it waits for the debugger
or the log handler. So the hook only puts the work into a reentrant queue, and a thread runs it.
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


class BackgroundThread:
    """One thread with a queue. Without the thread, as before the trail starts, work runs at once."""

    def __init__(self) -> None:
        self._on_full: Callable[[], None] | None = None
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a thread, so that submitting work needs no lock."""
        return self._thread is not None

    def start(self) -> None:
        """Starts the thread; not from an audit hook, where the start of a thread may wait for a debugger."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="mlaudit-runtime", daemon=True)
            self._thread.start()

    def submit(
        self, work: Callable[[], None], timeout: float = 0.0, on_full: Callable[[], None] | None = None
    ) -> bool:
        """Submits ``work``, which must contain its faults; returns whether it is done.

        Args:
            work: the work.
            timeout: seconds to wait for it; 0 does not wait.
            on_full: runs instead, once the queue is empty again, if the queue is full now.
        """
        if self._thread is None or threading.current_thread() is self._thread:
            work()
            return True
        if self._queue.qsize() >= MAX_WAITING:
            self._on_full = on_full
            return False
        if not timeout:
            self._queue.put(work)
            return False
        done = threading.Event()

        def both() -> None:
            try:
                work()
            finally:
                done.set()

        self._queue.put(both)
        return done.wait(timeout)

    def finish(self, timeout: float = 1.0) -> None:
        """Waits until the work in the queue is done; later work runs at once."""
        self.submit(_nothing, timeout)
        waiting, self._queue = self._queue, queue.SimpleQueue()
        self._thread = None
        with contextlib.suppress(queue.Empty):
            while True:
                _contained(waiting.get_nowait())
        waiting.put(_nothing)  # wakes the thread, which finds that it has to end

    def after_fork(self) -> None:
        """The thread and its queue belong to the parent."""
        self._queue = queue.SimpleQueue()
        self._thread = None

    def _read(self) -> None:
        waiting, own = self._queue, threading.current_thread()
        while self._thread is own:
            _contained(waiting.get())
            if self._on_full is not None and waiting.empty():
                on_full, self._on_full = self._on_full, None
                _contained(on_full)


def _nothing() -> None:
    """Does nothing; marks a position in the queue."""


def _contained(work: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        work()


background: Final = BackgroundThread()
os.register_at_fork(after_in_child=background.after_fork)
