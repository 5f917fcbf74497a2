"""Clients of a service: kept connections that ask without end, and know which of their requests were answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Self

from tests.fault.matrix.emitting import wait_for

_RECONNECT_SECONDS = 0.05
_ANSWER_SECONDS = 30.0


class Load:
    """Asks over several connections from a thread of its own until stopped; a lost connection is made anew.

    Attributes:
        sent: how many requests were sent.
        answered: their ids (``x-request-id``), once the whole answer has arrived with status 200.
        refused: ids of those answered with another status.
    """

    def __init__(
        self,
        port: int,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        connections: int = 8,
        name: str = "r",
    ) -> None:
        self.port = port
        self.sent = 0
        self.answered: list[str] = []
        self.refused: dict[str, int] = {}
        self._name = name
        self._connections = connections
        self._stopping = threading.Event()
        given = {"Host": "127.0.0.1", "Content-Type": "application/json", **headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{key}: {value}" for key, value in given.items())]
        self._head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "X-Request-ID: "]).encode()
        self._body = b"\r\n\r\n" + body
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No new request; returns after the last answer."""
        self._stopping.set()
        self._thread.join(_ANSWER_SECONDS + 5)

    def wait(self, answers: int, seconds: float = 400.0) -> float:
        """Until so many requests were answered; the seconds it took."""
        return wait_for(
            lambda: len(self.answered) >= answers,
            f"{answers} answered requests on port {self.port}",
            seconds,
        )

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._connections)))

    async def _client(self, number: int) -> None:
        count = 0
        while not self._stopping.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            try:
                while not self._stopping.is_set():
                    count += 1
                    if not await self._ask(reader, writer, f"{self._name}-{number}-{count}"):
                        break
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> bool:
        """One request; whether the connection stays open."""
        self.sent += 1
        writer.write(self._head + name.encode() + self._body)
        async with asyncio.timeout(_ANSWER_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            await reader.readexactly(length)
        status = int(head[9:12])
        if status == 200:
            self.answered.append(name)
        else:
            self.refused[name] = status
        return b"connection: close" not in head
