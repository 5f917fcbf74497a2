"""Bytes as a source of choices, so that a target is a plain function over bytes from any generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# Values that break parsers, terminals and encoders more often than random ones.
HOSTILE_TEXTS = (
    "", "\x00", "\n", "\r\naudit record 1: forged", "\x1b[2J\x1b[31m", "\x1b]8;;http://evil\x07here\x1b]8;;\x07",
    "\u202egnp.exe",
    "\u200b\u200d\ufeff", "\ud800", "\udfff\ud800", "é", "\u2028", "\U0001f600", "None", "NaN", "../../etc/passwd",
    "%s%n{0}",
    "[bold]x[/]", "'\"", "a" * 300, "{" * 70, "[" * 70, "=" * 40, "audit.kind", "audit.record.id",
    "password=hunter2", "-1", "1e999",
)  # fmt: skip
HOSTILE_INTEGERS = (
    0, 1, -1, 2, 127, 255, 2**31, 2**32, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1,
    10**30,
    10**400,
)  # fmt: skip


class Choices:
    """Draws values from bytes, front to back; once they are used up, every value is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Number of unused bytes."""
        return len(self._data) - self._at

    def bytes(self, most: int) -> bytes:
        """At most ``most`` bytes."""
        taken = self._data[self._at : self._at + max(0, most)]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """All remaining bytes."""
        return self.bytes(self.left)

    def below(self, bound: int) -> int:
        """A number from 0 to ``bound`` - 1."""
        return int.from_bytes(self.bytes(1 if bound <= 256 else 4), "big") % bound

    def often(self) -> bool:
        """True in half of the cases."""
        return self.below(2) == 1

    def seldom(self) -> bool:
        """True in one of sixteen cases."""
        return self.below(16) == 15

    def pick(self, options: Sequence[T]) -> T:
        """One of several."""
        return options[self.below(len(options))]

    def some(self, most: int) -> range:
        """A range of up to ``most`` items, empty when no bytes are left."""
        return range(self.below(most + 1))

    def integer(self) -> int:
        """Any integer."""
        kind = self.below(3)
        if kind == 0:
            return self.pick(HOSTILE_INTEGERS)
        return self.below(64) if kind == 1 else int.from_bytes(self.bytes(8), "big", signed=True)

    def text(self, most: int = 40) -> str:
        """Any text, lone surrogates included."""
        kind = self.below(4)
        if kind == 0:
            return self.pick(HOSTILE_TEXTS)
        raw = self.bytes(self.below(most + 1))
        if kind == 1:
            return raw.decode("latin-1")
        return raw.decode("utf-8", "surrogatepass" if kind == 2 else "replace") if _is_utf8(raw) else str(raw)

    def scalar(self) -> Any:
        """A scalar of JSON, and some that JSON does not have."""
        return self.pick(
            (
                lambda: None,
                lambda: self.often(),
                self.integer,
                self.text,
                lambda: self.pick((0.0, -0.0, 1.5, 1e308, float("nan"), float("inf"), -1e-320)),
            )
        )()

    def json(self, depth: int = 4) -> Any:
        """Mostly a value that JSON can represent."""
        kind = self.below(4)
        if depth == 0 or kind < 2:
            return self.scalar()
        if kind == 2:
            return [self.json(depth - 1) for _ in self.some(4)]
        return {self.text(): self.json(depth - 1) for _ in self.some(4)}

    def mutated(self, base: bytes) -> bytes:
        """``base`` with some of its bytes removed, inserted, repeated or flipped."""
        out = bytearray(base)
        for _ in self.some(6):
            place = self.below(len(out) + 1) if out else 0
            kind = self.below(5)
            if kind == 0 and place < len(out):
                out[place] ^= 1 << self.below(8)
            elif kind == 1:
                del out[place : place + self.below(64)]
            elif kind == 2:
                out[place:place] = self.bytes(self.below(16))
            elif kind == 3:
                out[place:place] = out[place : place + self.below(200)]
            else:
                out[place:place] = self.pick(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
        return bytes(out)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
