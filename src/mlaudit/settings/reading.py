"""Parses the texts of variables. Each reader raises ValueError with what it expected."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from mlaudit.safety.network import YES

if TYPE_CHECKING:
    from collections.abc import Callable

TRUE: Final = YES
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# The characters that OpenTelemetry's specification permits in a value, and the blank.
_HEADER: Final = re.compile(_NAME + r"[ \t]*=[ \t]*[ !#-+\--:<-\[\]-~]*")
_HEADER_NAME: Final = re.compile(_NAME)
_HEADER_VALUE: Final = re.compile(r"[ -~\xa0-\xff]*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
FALSE: Final = frozenset({"", "0", "false", "no", "off"})


def flag(text: str) -> bool:
    """True or false, in common spellings."""
    lowered = text.strip().lower()
    if lowered in TRUE:
        return True
    if lowered in FALSE:
        return False
    raise ValueError("true or false")


def count(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers within bounds."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return read


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A reader of durations within bounds."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"seconds from {low:g} to {high:g}")
        return number

    return read


_UNITS: Final = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def size(low: int) -> Callable[[str], int]:
    """A reader of sizes with a unit, of at least ``low`` bytes."""

    def read(text: str) -> int:
        stripped = text.strip()
        digits = stripped.rstrip("BKMGIbkmgi ")
        unit = stripped[len(digits) :].strip().upper()
        if not digits.isascii() or not digits.isdigit() or unit not in _UNITS:
            raise ValueError("a size such as 512MiB or 1GiB")
        number = int(digits) * _UNITS[unit]
        if number < low:
            raise ValueError(f"a size of at least {low} bytes")
        return number

    return read


def choice(*allowed: str) -> Callable[[str], str]:
    """A reader of one of several words."""

    def read(text: str) -> str:
        lowered = text.strip().lower()
        if lowered not in allowed:
            raise ValueError(" or ".join(allowed))
        return lowered

    return read


def path(text: str) -> Path:
    """A path; ``~`` is the home folder."""
    if not text.strip():
        raise ValueError("a path")
    return Path(text).expanduser()


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def paths(text: str) -> tuple[str, ...]:
    """Paths separated like ``PATH``."""
    return tuple(part for part in text.split(os.pathsep) if part)


def headers(text: str) -> tuple[tuple[str, str], ...]:
    """``name=value`` pairs separated by commas, read as by OpenTelemetry's exporters; names in lower case.

    A value is URL-decoded (``Bearer%20x``); one with a blank in it is taken literally (``Bearer x``). If a name is
    given twice, the last value counts. An error names the entry's position and never its text, which may be a secret.
    """
    from opentelemetry.util.re import parse_env_headers  # loaded only where headers are set

    pairs: dict[str, str] = {}
    for number, entry in enumerate(text.split(","), 1):
        if not entry.strip():
            continue
        # The parser would log and skip entries that it cannot read.
        if not _HEADER.fullmatch(entry.strip()):
            raise ValueError(f"name=value pairs separated by commas, URL-encoded; entry {number} is not one")
        for name, value in parse_env_headers(entry, liberal=True).items():
            # Decoding may produce line breaks, which would start another header, and letters beyond Latin-1.
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(
                    f"headers that HTTP can carry; entry {number} has a character that it cannot"
                )
            pairs[name] = value
    return tuple(pairs.items())


def attributes(text: str) -> dict[str, str]:
    """``name=value`` pairs separated by commas, read as resource attributes by OpenTelemetry's SDK.

    Values are URL-decoded, names are in lower case; entries that are not pairs or contain control characters are
    skipped.
    """
    found: dict[str, str] = {}
    for entry in text.split(","):
        name, equals, encoded = entry.partition("=")
        name, value = name.strip().lower(), unquote(encoded.strip())
        if equals and name and not _CONTROL.search(name + value):
            found[name] = value
    return found


def endpoint(text: str) -> str:
    """An address for OTLP/HTTP; without a path it gets ``/v1/logs``."""
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an http:// or https:// address such as http://127.0.0.1:4318")
    if parts.username or parts.password:
        raise ValueError("an address without credentials (give them by MLAUDIT_TOKEN_FILE)")
    return text.strip() if parts.path not in ("", "/") else text.strip().rstrip("/") + "/v1/logs"


def text(value: str) -> str:
    """The text unchanged."""
    return value.strip()
