"""A request or response body that is transferred in chunks: its size, its digest and, if requested, its content."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

OFFLOAD_BYTES: Final = 1 << 20
"""A chunk longer than this is hashed in a thread: hashing 100 MB holds up an event loop for a tenth of a second."""

_HOLD_BYTES: Final = 1 << 16
_IDENTITY: Final = (b"", b"identity")


class Body:
    """Size and SHA-256 of all chunks, whatever their cuts; the bytes themselves only up to ``limit``.

    A body longer than ``limit`` is discarded entirely: the beginning of a JSON text is not valid JSON, so it could not
    be redacted.
    """

    __slots__ = ("_first", "_hash", "_kept", "_limit", "size")

    def __init__(self, limit: int) -> None:
        """Takes how many bytes may be kept; 0 keeps none."""
        self.size = 0
        self._limit = limit
        self._first = b""
        self._hash: hashlib._Hash | None = None
        self._kept: list[bytes] | None = [] if limit else None

    def add(self, chunk: bytes) -> None:
        """Takes the next chunk; an empty one changes nothing."""
        length = len(chunk)
        if not length:
            return
        if self.size == 0 and length <= _HOLD_BYTES:
            self._first = bytes(chunk)  # most bodies are one small chunk: hashed in one call, on demand
        else:
            if self._hash is None:
                self._hash = hashlib.sha256(self._first)
                self._first = b""
            self._hash.update(chunk)
        self.size += length
        if self._kept is not None:
            if self.size > self._limit:
                self._kept = None
            else:
                self._kept.append(bytes(chunk))

    def digest(self) -> str:
        """SHA-256 (hex) of everything so far."""
        return self._hash.hexdigest() if self._hash is not None else hashlib.sha256(self._first).hexdigest()

    def raw(self) -> bytes | None:
        """Everything so far, or None when it was too long or not requested."""
        return None if self._kept is None else b"".join(self._kept)


async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
    """Runs ``work`` in a thread; in the event loop itself if that is not asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work(*args)
    return await asyncio.to_thread(work, *args)


def json_text(body: Body, encoding: bytes, content_type: bytes) -> tuple[str | None, str]:
    """The body as JSON text for redaction, or None and the reason.

    Only what can be redacted is recorded, and only JSON can: by its keys. A compressed body is not decompressed:
    a small one can become a very large one.
    """
    if encoding not in _IDENTITY:
        return None, f"it is compressed ({encoding.decode('latin-1')[:32]})"
    raw = body.raw()
    if raw is None:
        return None, f"it is longer than MLAUDIT_BODY_LIMIT ({body.size} bytes)"
    try:
        orjson.loads(raw)
        return raw.decode(), ""
    except ValueError:  # not JSON, not UTF-8, NaN, or nested too deep
        return None, f"it is not JSON ({content_type.decode('latin-1')[:64] or 'no content type'})"
