"""The model registry of a policy: the permitted artifacts of a model name or path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlaudit.policy.globs import Matcher, name_matcher, path_matcher

if TYPE_CHECKING:
    from collections.abc import Iterable

MATCH: Final = "match"
MISMATCH: Final = "mismatch"
UNREGISTERED: Final = "unregistered"

_PREFIX: Final = "sha256:"


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of a lookup: ``status`` is match, mismatch or unregistered; ``digest`` the registered one, or ""."""

    status: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: Matcher | None
    path: Matcher | None
    digest: str

    def applies(self, name: str, path: str) -> bool:
        if self.name is not None and not (name and self.name(name)):
            return False
        return self.path is None or bool(path and self.path(path))


class ModelRegistry:
    """Looks up artifacts; every entry that applies names a permitted digest."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[tuple[str | None, str | None, str]]) -> None:
        """Take ``(name glob or None, path glob or None, digest)`` in the policy's order."""
        self._entries = tuple(
            _Entry(
                name=name_matcher((name,)) if name else None,
                path=path_matcher((path,)) if path else None,
                digest=plain_digest(digest),
            )
            for name, path, digest in entries
        )

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, digest: str, *, name: str = "", path: str = "") -> Registration:
        """Compare an artifact's SHA-256 (hex, with or without ``sha256:``) with its registered digests."""
        found = plain_digest(digest)
        registered = [entry.digest for entry in self._entries if entry.applies(name, path)]
        if not registered:
            return Registration(UNREGISTERED)
        if found in registered:
            return Registration(MATCH, found)
        return Registration(MISMATCH, registered[0])


def plain_digest(text: str) -> str:
    """The lower-case hex of a digest, without its ``sha256:``."""
    return text.strip().lower().removeprefix(_PREFIX)
