"""A time limit on a whole HTTP exchange.

The HTTP library's timeout applies to each read: a receiver that sends a byte now and then would block the sender
forever.
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
    """Closes the connection of an exchange that takes too long. For the connections of one thread."""

    def __init__(self, manager: PoolManager) -> None:
        """Tracks every connection that ``manager`` uses."""
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
        """Reads from and writes to the connection in the block fail after this number of seconds."""
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
            # Not the TLS socket's method, which would free the session while another thread reads.
            with suppress(OSError):
                socket.socket.shutdown(found, socket.SHUT_RDWR)
