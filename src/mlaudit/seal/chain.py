"""The hash chain. Pure: it uses no file, clock or lock.

A record's hash is the SHA-256 of its body, and the body names the hash of the previous record. So the originals
alone, in order, prove the chain; no other format has to be trusted or kept.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from mlaudit.errors import ChainError
from mlaudit.seal.entry import Entry

GENESIS: Final = "0" * 64


class Chain:
    """The head of one stream. Not thread-safe: its owner serializes the calls."""

    __slots__ = ("_stream", "head", "sequence", "stream_id")

    def __init__(self, stream_id: str, sequence: int = 0, head: str = GENESIS) -> None:
        self.stream_id = stream_id
        self.sequence = sequence
        self.head = head
        self._stream = b'","audit.sequence.stream_id":"' + stream_id.encode() + b'"'

    def seal(self, head: bytes, tail: bytes) -> Entry:
        """The next entry, for an encoded record given in its two halves. Does not move the chain."""
        sequence = self.sequence + 1
        body = b'%b"audit.sequence.number":%d,"audit.sequence.previous_hash":"%b%b%b' % (
            head,
            sequence,
            self.head.encode(),
            self._stream,
            tail,
        )
        return Entry(sequence, self.head, sha256(body).digest(), body)

    def advance(self, entry: Entry) -> None:
        """Moves the chain to ``entry``, once it is stored.

        Raises:
            ChainError: ``entry`` was not sealed on the current head.
        """
        if entry.sequence != self.sequence + 1 or entry.previous_hash != self.head:
            raise ChainError(
                f"stream {self.stream_id}: expected entry {self.sequence + 1} on {self.head}, "
                f"found {entry.sequence} on {entry.previous_hash}; seal it again"
            )
        self.sequence = entry.sequence
        self.head = entry.hash
