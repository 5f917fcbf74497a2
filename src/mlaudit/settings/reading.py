"""What the text of a variable means. Each reader raises ValueError with what it expected."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mlaudit.safety.network import YES

if TYPE_CHECKING:
    from collections.abc import Callable

TRUE: Final = YES
FALSE: Final = frozenset({"", "0", "false", "no", "off"})


def flag(text: str) -> bool:
    """True or false, as people write it."""
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
    """``name=value`` pairs separated by commas; names in lower case."""
    pairs: list[tuple[str, str]] = []
    for item in text.split(","):
        if not item.strip():
            continue
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise ValueError("name=value pairs separated by commas")
        pairs.append((name.strip().lower(), value.strip()))
    return tuple(pairs)


def endpoint(text: str) -> str:
    """An address for OTLP/HTTP; without a path it gets ``/v1/logs``."""
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an http:// or https:// address such as http://127.0.0.1:4318")
    if parts.username or parts.password:
        raise ValueError("an address without credentials (give them by MLAUDIT_TOKEN_FILE)")
    return text.strip() if parts.path not in ("", "/") else text.strip().rstrip("/") + "/v1/logs"


def text(value: str) -> str:
    """Text as it stands."""
    return value.strip()
