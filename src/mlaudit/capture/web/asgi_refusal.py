"""A refusal as ASGI messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.web.http_refusal import HEADERS, PROBLEM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

_HEADERS: Final = tuple((name.encode(), value.encode()) for name, value in HEADERS)


async def answer_refusal(send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
    """Answers 503 with a problem document."""
    await send({"type": "http.response.start", "status": 503, "headers": list(_HEADERS)})
    await send({"type": "http.response.body", "body": PROBLEM, "more_body": False})


async def discard(_: MutableMapping[str, Any]) -> None:
    """Discards the rest of a refused answer."""
