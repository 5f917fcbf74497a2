"""A sealed record: its exact bytes and its place in the chain."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One link of a chain.

    Attributes:
        sequence: 1 for the first record of a stream, then increasing by one.
        previous_hash: hash of the previous record, lower hex; 64 zeros for the first.
        digest: SHA-256 of ``body``, 32 bytes.
        body: the sealed original, exactly as it is stored, sent and kept.
    """

    sequence: int
    previous_hash: str
    digest: bytes
    body: bytes

    @property
    def hash(self) -> str:
        """``digest`` in lower hex, the form that records carry."""
        return self.digest.hex()
