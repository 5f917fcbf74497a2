"""What a client gets when its request may not happen, or may not have happened, unrecorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

_PROBLEM: Final = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The audit record of this request '
    b'could not be stored, and the audit policy does not allow an unrecorded request."}'
)
_HEADERS: Final = (
    (b"content-type", b"application/problem+json"),
    (b"content-length", str(len(_PROBLEM)).encode()),
    (b"retry-after", b"5"),
)


async def answer_refusal(send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
    """Answers 503 with a problem document (RFC 9457)."""
    await send({"type": "http.response.start", "status": 503, "headers": list(_HEADERS)})
    await send({"type": "http.response.body", "body": _PROBLEM, "more_body": False})


async def discard(_: MutableMapping[str, Any]) -> None:
    """Takes the rest of an answer that was refused."""
