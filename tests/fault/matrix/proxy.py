"""A proxy in front of the real collector, which for some requests answers by itself, and a relay for any connection.

What is forwarded is forwarded byte for byte.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

_SECONDS = 120.0
_CHUNK = 1 << 16


class Exchange:
    """One request that has come in, of which so far only the head was read.

    Attributes:
        number: of the request, over all connections, from 1.
        head: request line and headers, with the empty line.
        open: whether the connection can carry another request.
    """

    def __init__(self, number: int, client: socket.socket, head: bytes, rest: bytes, upstream: str) -> None:
        self.number = number
        self.head = head
        self.open = True
        self._client = client
        self._body = rest
        self._upstream = upstream
        self.length = int(_header(head, "content-length") or 0)

    def read(self, share: float = 1.0) -> bytes:
        """The body, or only so much of it."""
        wanted = int(self.length * share)
        while len(self._body) < wanted and (chunk := self._client.recv(_CHUNK)):
            self._body += chunk
        return self._body[: self.length]

    def forward(self, body: bytes | None = None) -> bytes:
        """Has the collector answer, this or another body; the whole answer as it came."""
        head = self.head
        whole = self.read()
        if body is None:
            body = whole
        else:
            head = _with_length(head, len(body))
        parts = urlsplit(self._upstream)
        with socket.create_connection((parts.hostname or "", parts.port or 80), _SECONDS) as upstream:
            upstream.sendall(head + body)
            return _read_answer(upstream)

    def send(self, data: bytes) -> None:
        """Writes bytes to the sender."""
        self._client.sendall(data)

    def answer(self, status: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Answers without asking the collector."""
        self.read()
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        if not status.startswith("304"):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def hold(self) -> None:
        """Does nothing until the sender gives up."""
        watched = select.poll()
        watched.register(self._client, select.POLLRDHUP)
        watched.poll(_SECONDS * 1000)
        self.close()

    def reset(self) -> None:
        """Ends the connection with a reset."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Ends the connection; over TLS without saying so."""
        self.open = False
        self._client.close()

    def say_goodbye(self) -> None:
        """Ends the connection; over TLS with a close_notify."""
        if isinstance(self._client, ssl.SSLSocket):
            self._client.settimeout(2)
            with contextlib.suppress(OSError):
                self._client.unwrap()
        self.close()


Script = Callable[[Exchange], None]


def forward(exchange: Exchange) -> None:
    """What a proxy does."""
    exchange.send(exchange.forward())


class _Listener:
    """Accepts connections on a loopback port and serves each from a thread of its own."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._stopping = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Listens no longer and ends every connection."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in tuple(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._served, args=(client,), daemon=True).start()

    def _served(self, client: socket.socket) -> None:
        client.settimeout(_SECONDS)
        self._open.add(client)
        try:
            with client if self._tls is None else self._tls.wrap_socket(client, server_side=True) as wrapped:
                self._open.add(wrapped)
                try:
                    self._serve(wrapped)
                finally:
                    self._open.discard(wrapped)
        except OSError:
            pass
        finally:
            self._open.discard(client)

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class Proxy(_Listener):
    """Speaks HTTP; what happens to each request is its script's to say."""

    def __init__(self, upstream: str, script: Script = forward, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self._upstream = upstream
        self.script = script
        self.requests = 0
        self.done: Counter[str] = Counter()
        self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    def _serve(self, client: socket.socket) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                if not (chunk := client.recv(_CHUNK)):
                    return
                data += chunk
            head, _, rest = data.partition(b"\r\n\r\n")
            self.requests += 1
            exchange = Exchange(self.requests, client, head + b"\r\n\r\n", rest, self._upstream)
            self.script(exchange)
            if not exchange.open:
                return
            data = b""


class Relay(_Listener):
    """Carries any bytes both ways; while ``deaf``, what comes back is swallowed."""

    def __init__(self, upstream: str, upstream_tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._upstream = urlsplit(upstream)
        self._upstream_tls = upstream_tls
        self.deaf = False
        self.swallowed = 0
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def _serve(self, client: socket.socket) -> None:
        host, port = self._upstream.hostname or "", self._upstream.port or 80
        upstream = socket.create_connection((host, port), _SECONDS)
        if self._upstream_tls is not None:
            upstream = self._upstream_tls.wrap_socket(upstream, server_hostname=host)
        with upstream:
            self._open.add(upstream)
            back = threading.Thread(target=self._carry_back, args=(upstream, client), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while chunk := client.recv(_CHUNK):
                    upstream.sendall(chunk)
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            back.join(_SECONDS)
            self._open.discard(upstream)

    def _carry_back(self, upstream: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := upstream.recv(_CHUNK):
                if self.deaf:
                    self.swallowed += len(chunk)
                else:
                    client.sendall(chunk)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _header(head: bytes, name: str) -> str:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name.encode():
            return value.strip().decode()
    return ""


def _with_length(head: bytes, length: int) -> bytes:
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    lines.insert(1, f"Content-Length: {length}".encode())
    return b"\r\n".join(lines)


def _read_answer(upstream: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := upstream.recv(_CHUNK)):
            raise ConnectionResetError("the collector ended the connection")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    chunked = _header(head, "transfer-encoding") == "chunked"
    length = int(_header(head, "content-length") or 0)
    while len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n")):
        if not (chunk := upstream.recv(_CHUNK)):
            raise ConnectionResetError("the collector ended the connection")
        body += chunk
    return head + b"\r\n\r\n" + body
