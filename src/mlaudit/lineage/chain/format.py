"""Digests and counts as text, the same in a node's title and on its card."""

from __future__ import annotations

from typing import Any


def short(digest: Any) -> str:
    """The beginning of a digest."""
    text = str(digest or "")
    return f"{text[:12]}…" if len(text) > 16 else text


def counted(count: int, noun: str) -> str:
    """A count with its noun in singular or plural."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
