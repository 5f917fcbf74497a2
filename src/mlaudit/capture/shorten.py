"""Cuts texts that are too long, before they are searched for secrets."""

from __future__ import annotations

import re
from typing import Final

CUT: Final = "…"
_LOOKED_AT: Final = 512
# Half a token, or a number in groups, is no longer recognised as the secret that it is a part of.
_HALF: Final = re.compile(r"[\d -]{0,40}[^\s,;&\"'(){}\[\]<>|]*\Z")


def shortened(text: str, limit: int) -> str:
    """The text, or at most ``limit`` characters of it with a mark at the end, never ending within a word."""
    if len(text) <= limit:
        return text
    kept = text[: limit - len(CUT)]
    found = _HALF.search(kept, max(0, len(kept) - _LOOKED_AT))
    return (kept[: found.start()] if found else kept) + CUT


def without_middle(text: str, limit: int) -> str:
    """The text, or its beginning and its end where it is longer than ``limit``; both end and begin with whole lines."""
    if len(text) <= limit:
        return text
    half = limit // 2
    _, _, tail = text[-half:].partition("\n")
    return f"{shortened(text, half)}\n{tail}"
