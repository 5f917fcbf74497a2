"""The place of data without secrets: absolute paths, URIs without credentials, never the data itself."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

_LONGEST: Final = 4096
_LISTED: Final = 1000
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# The part before the @ of these is a container, unless it has a password.
_CONTAINERS: Final = frozenset({"abfs", "abfss", "adl", "wasb", "wasbs"})
# pandas' older releases accept a document itself as a path.
_DOCUMENTS: Final = ("{", "[", "<")


class Place(NamedTuple):
    """The place of data.

    Attributes:
        name: absolute path, URI without credentials, query and fragment, or in brackets a source without a place.
        uri: the URI, "" without a place.
        path: absolute path of a local file, else "".
    """

    name: str
    uri: str = ""
    path: str = ""

    @property
    def size(self) -> int | None:
        """Bytes of a local file as it stands; None for anything else."""
        try:
            return os.path.getsize(self.path) if os.path.isfile(self.path) else None  # noqa: PTH113, PTH202
        except OSError:
            return None


def place_of(source: Any) -> Place:
    """The place of a path, a URI, an open file or a list of them (then of its first)."""
    if isinstance(source, list | tuple) and source:
        return place_of(source[0])
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, bytes):
        source = os.fsdecode(source) if len(source) <= _LONGEST else source
    if isinstance(source, str):
        return _place_of_text(source)
    return _place_of_file(source)


def places_of(source: Any) -> list[Place]:
    """The places of a source, a list of sources, or a place."""
    if isinstance(source, Place):
        return [source]
    if isinstance(source, list | tuple):
        return [place_of(one) for one in source[:_LISTED]]
    return [place_of(source)]


def _place_of_text(text: str) -> Place:
    if len(text) > _LONGEST or "\n" in text or text.lstrip().startswith(_DOCUMENTS):
        return Place("<text>")
    # fsspec chains file systems: the last one is where the data is.
    last = text.rpartition("::")[2] if "://" in text else text
    if _URI.match(last):
        return _place_of_uri(last)
    path = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - as written: a link's name is its name
    return Place(path, _file_uri(path), path)


def _place_of_uri(text: str) -> Place:
    try:
        parts = urlsplit(text)
    except ValueError:
        return Place("<address>")
    if parts.scheme == "file":
        return _place_of_text(parts.path)
    user, at, host = parts.netloc.rpartition("@")
    keeps_user = parts.scheme in _CONTAINERS and ":" not in user
    uri = f"{parts.scheme}://{parts.netloc if at and keeps_user else host}{parts.path}"
    return Place(uri, uri)


def _place_of_file(source: Any) -> Place:
    # An fsspec file has its own address, an ExcelWriter or an HDFStore its path.
    for name in ("full_name", "name", "path", "_path", "_io", "filename"):
        found = getattr(source, name, None)
        if isinstance(found, bytes):
            found = os.fsdecode(found)
        if isinstance(found, str | os.PathLike) and os.fspath(found):
            protocol = getattr(getattr(source, "fs", None), "protocol", "")
            protocol = protocol[0] if isinstance(protocol, list | tuple) and protocol else protocol
            if isinstance(protocol, str) and protocol not in ("", "file") and "://" not in str(found):
                return _place_of_text(f"{protocol}://{str(found).lstrip('/')}")
            return _place_of_text(os.fspath(found))
    return Place(f"<{type(source).__name__}>")


def _file_uri(path: str) -> str:
    try:
        return Path(path).as_uri()
    except ValueError:
        return f"file://{quote(path)}"
