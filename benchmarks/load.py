"""The load: a closed loop over persistent connections; each sends the next request after the response.

``python -m benchmarks.load`` answers each line (see ``Order``) with its results.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, NamedTuple, cast

import uvloop

_GRACE_SECONDS = 20.0


class Order(NamedTuple):
    """One round: ``connections`` at once for ``seconds``; pending requests are waited for."""

    port: int
    method: str
    path: str
    body: str
    connections: int
    seconds: float


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, deadline: float, latencies: list[int]) -> None:
        self._request = request
        self._deadline = deadline
        self._latencies = latencies
        self._received = b""
        self._sent = 0
        self.bad_answers = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not a subclass
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, length = head.lower().partition(b"content-length: ")
        if len(body) < int(length.partition(b"\r\n")[0]):
            return
        now = time.perf_counter_ns()
        self._latencies.append(now - self._sent)
        if head[9:12] != b"200":
            self.bad_answers += 1
        self._received = b""
        if now < self._deadline:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _ask(self) -> None:
        self._sent = time.perf_counter_ns()
        self._transport.write(self._request)


def _request_of(order: Order, number: int) -> bytes:
    body = order.body.encode()
    lines = [
        f"{order.method} {order.path} HTTP/1.1",
        f"host: 127.0.0.1:{order.port}",
        "user-agent: benchmark/1",
        "accept: */*",
        f"authorization: Bearer token-of-client-{number}",
    ]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def run(order: Order) -> dict[str, Any]:
    """One round of load."""
    loop = asyncio.get_running_loop()
    latencies: list[int] = []
    begin = time.perf_counter_ns()
    deadline = begin + int(order.seconds * 1e9)
    connections = [
        _Connection(_request_of(order, number), deadline, latencies) for number in range(order.connections)
    ]
    for connection in connections:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", order.port)
    async with asyncio.timeout(order.seconds + _GRACE_SECONDS):
        await asyncio.gather(*(connection.done for connection in connections))
    seconds = (time.perf_counter_ns() - begin) / 1e9
    ordered = sorted(latencies)
    return {
        "requests": len(ordered),
        "bad_answers": sum(connection.bad_answers for connection in connections),
        "seconds": seconds,
        "requests_per_second": len(ordered) / seconds,
        "p50_ms": ordered[len(ordered) // 2] / 1e6,
        "p99_ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / 1e6,
    }


def main() -> None:
    """Answers orders until stdin ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            print(json.dumps(runner.run(run(Order(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
