"""Hostile requests do not disturb the application, and each has its record."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
import zlib
from typing import Any

import pytest

from mlaudit.capture.web.asgi import AsgiMiddleware
from mlaudit.testing import capture

FULL = """
version: 1
revisions: [{number: 1, date: 2026-01-01, changes: x, reason: y, sections: z}]
rules: [{name: all, level: full}]
"""
MILLION = 1_000_000


def exchange(
    body: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = (), **scope: Any
) -> tuple[bytes, dict[str, Any]]:
    """Sends one request through an audited application; returns what the application read, and the record."""
    read: list[bytes] = []
    sent: list[Any] = []
    pieces = [body[start : start + 65_536] for start in range(0, max(len(body), 1), 65_536)]
    incoming = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            read.append(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "root_path": "",
        "client": ("192.0.2.7", 1),
        "headers": list(headers), **scope,
    }  # fmt: skip
    with capture(FULL, instrument=False) as log:
        asyncio.run(AsgiMiddleware(application)(whole, receive, send))
        (record,) = [
            r for r in log.records if not r["audit.kind"].startswith(("audit.stream.", "audit.policy."))
        ]
        assert log.pipeline.counts.faults == 0
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return b"".join(read), record


@pytest.mark.parametrize(
    "encoding", [b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip", b"GZIP", b"identity, gzip"]
)
def test_a_compressed_body_is_not_inflated(encoding: bytes) -> None:
    """A bomb of 64 MB goes by as the bytes it is: digest and length of those, no content, and the reason."""
    body = gzip.compress(bytes(64 << 20)) if b"deflate" not in encoding else zlib.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        read, record = exchange(
            body, ((b"content-encoding", encoding), (b"content-type", b"application/json"))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == body
    assert record["http.request.body.bytes"] == len(body)
    assert "http.request.body.content" not in record
    assert "request content not recorded" in record["event.reason"]
    assert peak < 16 << 20


def test_a_body_of_a_thousand_levels_is_recorded() -> None:
    """JSON that is nested a thousand times disturbs nothing; what cannot be read as JSON is not recorded."""
    for depth in (1000, 100_000):
        body = b"[" * depth + b"]" * depth
        read, record = exchange(body, ((b"content-type", b"application/json"),))
        assert read == body
        content = record.get("http.request.body.content", "")
        assert len(content) <= 2000
        assert content.startswith("[") or "not recorded" in record["event.reason"]


def test_a_hundred_thousand_headers_are_not_recorded() -> None:
    """Only headers with a meaning are, each cut; the rest cost bounded time."""
    headers = tuple((b"x-%d" % number, b"v" * 20) for number in range(100_000))
    long = ((b"user-agent", b"u" * MILLION), (b"x-request-id", b"i" * MILLION), (b"host", b"h" * MILLION))
    started = time.process_time()
    _, record = exchange(b"", headers + long)
    assert time.process_time() - started < 10
    assert len(record["user_agent.original"]) == len(record["http.request.id"]) == 1024
    assert len(record["url.domain"]) == 256


def test_a_path_and_a_query_of_a_million_characters_are_cut() -> None:
    """The record holds their beginning."""
    _, record = exchange(path="/predict/" + "p" * MILLION, query_string=b"q=" + b"q" * MILLION)
    assert len(record["url.path"]) == 1024
    assert len(record["url.query"]) <= 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"user-agent", b"x\r\nx-forged: 1"), (b"user-agent", b"\x00\x1b[2J"), (b"host", b"a\r\nb"),
        (b"x-request-id", b"\xff\xfe\x00"),
        (b"authorization", b"Basic \xff\xff"), (b"authorization", b"\r\n"), (b"traceparent", b"00-\r\n"),
        (b"content-length", b"1, 2"),
        (b"content-encoding", b"\r\ngzip"), (b"content-type", b"\x00" * 1000), (b"\r\nx", b"y"), (b"", b""),
    ],
)  # fmt: skip
def test_header_values_that_would_be_more_stay_values(name: bytes, value: bytes) -> None:
    """Line ends, NUL and bytes that are no UTF-8 in a header end up inside one field of one record."""
    _, record = exchange(b"{}", ((name, value),))
    assert record["event.outcome"] == "success"
    assert "x-forged" not in record


@pytest.mark.parametrize("path", ["/a\x00b", "/a\nb", "/\udcff", "/\u202eb", "//" * 300, "/" + "../" * 300])
def test_paths_of_any_characters_are_recorded(path: str) -> None:
    """The path is in the record; what is no Unicode of it is written out."""
    _, record = exchange(path=path)
    assert record["url.path"] == path[:1024].encode("utf-8", "backslashreplace").decode()
