"""The interface between the pipeline and delivery, and its guarantees."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Ticket:
    """The pending result of storing one record.

    A buffered record's ticket is settled when ``append`` returns. A durable record's ticket is settled after the
    fsync that covers it.
    """

    __slots__ = ("_callbacks", "_event", "_lock", "ok")

    def __init__(self) -> None:
        self.ok = False
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._event.is_set()

    def settle(self, ok: bool) -> None:
        """Sets the outcome, once."""
        with self._lock:
            self.ok = ok
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_settled(self, callback: Callable[[bool], object]) -> None:
        """Calls back with the outcome, in the thread that sets it; at once when it is known."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(lambda: callback(self.ok))
                return
        callback(self.ok)

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until the outcome is known; returns whether the record is safe (False also on time-out)."""
        return self._event.wait(timeout) and self.ok

    async def wait_async(self) -> bool:
        """As ``wait``, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            loop.call_soon_threadsafe(finish)

        with self._lock:
            settled = self._event.is_set()
            if not settled:
                self._callbacks.append(wake)
        if not settled:
            await future
        return self.ok


class _Settled(Ticket):
    """A ticket that needs no lock, because its outcome is known from the start."""

    __slots__ = ()

    async def wait_async(self) -> bool:
        return self.ok


def settled(ok: bool) -> Ticket:
    """A ticket whose outcome is already known."""
    ticket = _Settled()
    ticket.settle(ok)
    return ticket


SAFE = settled(ok=True)
LOST = settled(ok=False)


class Delivery(Protocol):
    """Accepts the sealed frames of one stream, in order. Implemented by the spool, and in memory for tests."""

    def append(self, sequence: int, digest: bytes, payload: bytes, *, durable: bool) -> Ticket:
        """Stores one frame.

        Returns after the frame is handed to the operating system; with ``durable`` the ticket settles after
        fsync. Raises SpoolError when the frame was not stored: then no part of it remains.
        """
        ...

    def writable(self) -> bool:
        """Whether a frame would be stored now, as far as this can be known without writing."""
        ...

    def forget(self) -> None:
        """In a forked child: leaves the parent's stream to the parent."""
        ...

    def finish(self, deadline: float, *, keep: bool = False) -> bool:
        """Syncs, sends the remaining frames until ``deadline`` (monotonic seconds), and closes.

        With ``keep`` the stream is not removed even when everything is acknowledged: it has no end yet.

        Returns whether everything was acknowledged; the rest stays for the next process.
        """
        ...
