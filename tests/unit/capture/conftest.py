"""An ASGI server of a few lines, so that tests see every message that goes to the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlaudit.capture import audit_hooks
from mlaudit.capture.aside import aside
from mlaudit.capture.libraries import known


@dataclass
class Heard:
    """What the client was sent, and what the application raised."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def status(self) -> int:
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), 0)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(next((m["headers"] for m in self.messages if m["type"] == "http.response.start"), []))

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")

    @property
    def complete(self) -> bool:
        return any(m["type"] == "http.response.body" and not m.get("more_body") for m in self.messages)


@dataclass
class Ask:
    """Sends one request to an application; ``on_message`` sees each message before the client has it."""

    on_message: Callable[[dict[str, Any]], None] | None = None

    def __call__(
        self,
        app: Any,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | Sequence[bytes] = b"",
        query: bytes = b"",
        **scope: Any,
    ) -> Heard:
        return asyncio.run(self.send(app, method, path, headers=headers, body=body, query=query, **scope))

    async def send(
        self,
        app: Any,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | Sequence[bytes] = b"",
        query: bytes = b"",
        **scope: Any,
    ) -> Heard:
        heard = Heard()
        chunks = [body] if isinstance(body, bytes) else list(body)
        incoming = [
            {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
            for index, chunk in enumerate(chunks)
        ]

        async def receive() -> dict[str, Any]:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if self.on_message is not None:
                self.on_message(message)
            heard.messages.append(message)

        whole = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "client": ("198.51.100.7", 4711),
            "server": ("127.0.0.1", 80),
            "state": {},
            **scope,
        }
        try:
            await app(whole, receive, send)
        except BaseException as error:  # noqa: BLE001 - what a server would see
            heard.error = error
        return heard


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread and no hook of the runtime is left of an earlier test, and no listener to models that are loaded."""
    monkeypatch.setattr(known, "_listeners", [])
    audit_hooks.uninstall()
    yield
    aside.finish()


@pytest.fixture
def ask() -> Ask:
    """Sends requests to an ASGI application, see ``Ask``."""
    return Ask()
