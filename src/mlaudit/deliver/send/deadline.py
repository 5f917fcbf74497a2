"""A limit on the time of a whole HTTP exchange.

The library's own time-out is for each read alone: a receiver that sends a byte now and then would hold the sender
for ever.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3 import PoolManager


class Deadline:
    """Cuts the connection of an exchange that takes too long. For the connections of one thread."""

    def __init__(self, manager: PoolManager) -> None:
        """Takes note of every connection that ``manager`` uses."""
        self._connection: HTTPConnection | None = None
        watch = self

        class Plain(HTTPConnection):
            def request(self, *args: Any, **kwargs: Any) -> None:
                watch._connection = self
                super().request(*args, **kwargs)

        class Secure(HTTPSConnection):
            def request(self, *args: Any, **kwargs: Any) -> None:
                watch._connection = self
                super().request(*args, **kwargs)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Whatever is read from or written to the connection in the block fails after so many seconds."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._connection = None

    def _cut(self) -> None:
        connection = self._connection
        found = None if connection is None else connection.sock
        if found is not None:
            # Not the method of a TLS socket: that one would take the session from under the thread that reads.
            with suppress(OSError):
                socket.socket.shutdown(found, socket.SHUT_RDWR)
