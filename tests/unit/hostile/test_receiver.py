"""A receiver that attacks the sender's memory, time or acknowledgements."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mlaudit.deliver.send import transport
from mlaudit.deliver.send.answer import Verdict
from mlaudit.deliver.send.transport import HttpTransport, Receiver

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n"
LIMIT = 32 << 20


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request and answers it in its own way; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                try:
                    answer(connection)
                except OSError:
                    return  # the sender gave up, as it should

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1/logs"
        thread.join(10)


def post(answer: Callable[[socket.socket], None]) -> tuple[transport.Answer, float, int]:
    """The sender's verdict on the response, the seconds that it took, and its peak of memory."""
    with answering(answer) as endpoint:
        sender = HttpTransport(Receiver(endpoint))
        tracemalloc.start()
        started = time.monotonic()
        try:
            found = sender.post(b"request")
            took, peak = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            sender.close()
    return found, took, peak


def packed_zeros(size: int, window: int) -> bytes:
    """A stream of so many zeros, compressed a thousandfold."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize(("encoding", "window"), [("gzip", 31), ("deflate", 15)])
def test_a_compressed_answer_is_not_inflated_without_bound(encoding: str, window: int) -> None:
    """An answer of 128 MB in 128 KB is no acknowledgement and costs a few megabytes."""
    content = packed_zeros(128 << 20, window)

    def answer(connection: socket.socket) -> None:
        head = HEAD + b"content-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (
            encoding.encode(),
            len(content),
        )
        connection.sendall(head + content)

    found, _, peak = post(answer)
    assert found.verdict is Verdict.RETRY
    assert peak < LIMIT


def test_bombs_within_each_other_are_not_opened() -> None:
    """An answer compressed many times over is no acknowledgement and costs a few megabytes."""
    content = gzip.compress(packed_zeros(128 << 20, 31))

    def answer(connection: socket.socket) -> None:
        head = HEAD + b"content-encoding: gzip, gzip\r\ncontent-length: %d\r\n\r\n" % len(content)
        connection.sendall(head + content)

    found, _, peak = post(answer)
    assert found.verdict is Verdict.RETRY
    assert peak < LIMIT


def test_an_answer_without_end_is_given_up() -> None:
    """A body without an end is abandoned after a megabyte, whatever its status."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    found, _, peak = post(answer)
    assert found.verdict is Verdict.RETRY
    assert peak < LIMIT


@pytest.mark.parametrize("where", ["head", "body", "status"])
def test_an_answer_that_drips_is_given_up(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow trickle of bytes does not hold the sender for longer than the response timeout."""
    monkeypatch.setattr(transport, "_ANSWER_SECONDS", 0.4)
    monkeypatch.setattr(transport, "_CONNECT_SECONDS", 0.2)

    def answer(connection: socket.socket) -> None:
        if where == "body":
            connection.sendall(HEAD + b"content-length: 100000\r\n\r\n")
        elif where == "head":
            connection.sendall(HEAD + b"x-slow: ")
        for _ in range(100):
            connection.sendall(b"H")
            time.sleep(0.1)

    found, took, _ = post(answer)
    assert found.verdict is Verdict.RETRY
    assert took < 5


def test_headers_without_end_are_given_up() -> None:
    """A hundred thousand headers, or one of many megabytes, are no acknowledgement."""

    def many(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"".join(b"x-%d: y\r\n" % number for number in range(100_000)) + b"\r\n")

    def long(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"x-long: " + b"y" * (8 << 20) + b"\r\ncontent-length: 0\r\n\r\n")

    for answer in (many, long):
        found, _, peak = post(answer)
        assert found.verdict is Verdict.RETRY
        assert peak < LIMIT


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 5\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\x00: \x00\r\ncontent-length: 9\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"",
    ],
)
def test_an_answer_that_does_not_say_where_it_ends_acknowledges_nothing(head: bytes) -> None:
    """Two lengths, a negative one, too little, or no HTTP at all: the records stay."""
    found, _, _ = post(lambda connection: connection.sendall(head))
    assert found.verdict is not Verdict.ACKNOWLEDGED
