"""The request of a WSGI environment, in the form of an ASGI scope, and the body as the application reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Template:
    """The route that a request took."""

    path: str


def path_of(environ: dict[str, Any]) -> str:
    """The whole path of a request, with the prefix that the application is mounted under."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    # WSGI gives the bytes of a path as Latin-1 (PEP 3333).
    return (path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")) or "/"


def headers_of(environ: dict[str, Any], single: str) -> list[tuple[bytes, bytes]]:
    """The headers of a request, with lower-case names.

    Args:
        environ: of the request.
        single: a header that must be sent once. Servers join several of a name with a comma, so a value with one is
            given as two, whose origin is unknown.
    """
    headers: list[tuple[bytes, bytes]] = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = key[5:]
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            name = key
        else:
            continue
        pair = (name.lower().replace("_", "-").encode("latin-1"), value.encode("latin-1", "replace"))
        headers.append(pair)
        if "," in value and single and pair[0] == single.lower().encode("latin-1"):
            headers.append(pair)
    return headers


def client_of(environ: dict[str, Any]) -> tuple[str, int] | None:
    """Address and port of the client as the server, or a middleware that it trusts, gives them."""
    address = environ.get("REMOTE_ADDR")
    if not address:
        return None
    port = str(environ.get("REMOTE_PORT", ""))
    return str(address), int(port) if port.isdigit() else 0


class RemoteUser:
    """The user that the server or a middleware authenticated (``REMOTE_USER``)."""

    is_authenticated = True

    def __init__(self, username: str) -> None:
        """Takes the name."""
        self.username = username


class ReadInput:
    """Wraps ``wsgi.input`` and reports each piece as the application reads it."""

    def __init__(self, stream: Any, seen: Callable[[bytes, bool], None]) -> None:
        """Takes the stream, and a callback that gets each piece and whether it is the last."""
        self._stream = stream
        self._seen = seen

    def read(self, size: int | None = -1) -> bytes:
        """See ``io.RawIOBase.read``."""
        chunk: bytes = self._stream.read() if size is None or size < 0 else self._stream.read(size)
        self._seen(chunk, size != 0 and (not chunk or size is None or size < 0))
        return chunk

    def readinto(self, buffer: Any) -> int:
        """See ``io.RawIOBase.readinto``: over ``read``, which every stream has."""
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def readline(self, size: int | None = -1) -> bytes:
        """See ``io.IOBase.readline``."""
        line: bytes = self._stream.readline() if size is None or size < 0 else self._stream.readline(size)
        self._seen(line, size != 0 and not line)
        return line

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """See ``io.IOBase.readlines``."""
        lines: list[bytes] = (
            self._stream.readlines() if hint is None or hint < 0 else self._stream.readlines(hint)
        )
        for line in lines:
            self._seen(line, False)
        if hint is None or hint <= 0:
            self._seen(b"", True)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Line by line."""
        while line := self.readline():
            yield line

    def __getattr__(self, name: str) -> Any:
        # Any other attribute could read without being recorded.
        if name in ("read1", "peek", "readinto1", "readall", "detach", "raw", "buffer"):
            raise AttributeError(name)
        return getattr(self._stream, name)
