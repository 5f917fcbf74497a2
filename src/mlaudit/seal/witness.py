"""What signed checkpoints say about one stream, compared with its records. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlaudit.errors import ChainError
from mlaudit.seal import finding as codes
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, VerifyingKey
from mlaudit.seal.finding import Finding
from mlaudit.seal.stored import NOTE, StoredRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# A checkpoint is written right behind the record it names; other threads may come between, never so many.
_REMEMBERED: Final = 1 << 15

Suspicion = tuple[int, Finding]
"""A finding, and the sequence of the record that would explain it if that record was changed."""


class Witness:
    """The signatures of one stream: what they cover, and what they contradict.

    ``known`` are checkpoints that came by another way and whose signatures are checked already.
    """

    def __init__(
        self, stream_id: str, keys: Mapping[str, VerifyingKey] | None, known: Iterable[Checkpoint] = ()
    ) -> None:
        self.good = 0
        self.bad = 0
        self.last_signed = 0
        self._stream_id = stream_id
        self._keys = None if keys is None else dict(keys)
        self._known = {checkpoint.sequence: checkpoint for checkpoint in known}
        self._known_seen: dict[int, str] = {}
        self._recent: dict[int, str] = {}
        self._older: dict[int, str] = {}
        self._bearers: list[int] = []
        self._strangers: set[str] = set()
        self._contradicted = False

    def saw(self, record: StoredRecord) -> None:
        """Remembers the hash of a record."""
        if len(self._recent) >= _REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[record.sequence] = record.hash
        if record.sequence in self._known:
            self._known_seen[record.sequence] = record.hash

    def known_hash(self, sequence: int) -> str:
        """The hash that a checkpoint from elsewhere gives for a record, or the empty string."""
        checkpoint = self._known.get(sequence)
        return checkpoint.hash if checkpoint else ""

    def said(self, record: StoredRecord, sequence: int) -> str:
        """The hash that the good signature which ``record`` carries gives for ``sequence``, or the empty string."""
        try:
            note = SignedNote.parse(str((record.facts or {}).get(NOTE, "")))
        except ChainError:
            return ""
        if self._keys is None or note.signed_by(self._keys) is None:
            return ""
        checkpoint = note.checkpoint
        fits = checkpoint.stream_id == self._stream_id and checkpoint.sequence == sequence
        return checkpoint.hash if fits else ""

    def testify(self, record: StoredRecord) -> Iterator[Suspicion]:
        """Checks the checkpoint that a record carries."""
        note_text = (record.facts or {}).get(NOTE)
        try:
            note = SignedNote.parse(note_text if type(note_text) is str else "")
        except ChainError as error:
            self.bad += 1
            yield record.sequence, self._finding(codes.CHECKPOINT_SIGNATURE, record, str(error))
            return
        if self._keys is not None and note.signed_by(self._keys) is None:
            self.bad += 1
            yield from self._unsigned_note(record, note)
            return
        checkpoint = note.checkpoint
        if checkpoint.stream_id != self._stream_id or checkpoint.sequence >= record.sequence:
            self.bad += 1
            yield (
                record.sequence,
                self._finding(
                    codes.CHECKPOINT_MISMATCH,
                    record,
                    f"the signature is about record {checkpoint.sequence} of stream {checkpoint.stream_id}, "
                    "not about this stream's past",
                ),
            )
            return
        seen = self._hash_of(checkpoint.sequence)
        if seen and seen != checkpoint.hash:
            self.bad += 1
            yield from self._contradiction(checkpoint, seen, record.claims.where)
            return
        if self._keys is None:
            return
        self.good += 1
        if checkpoint.sequence > self.last_signed:
            self.last_signed = checkpoint.sequence
            self._bearers = [sequence for sequence in self._bearers if sequence > self.last_signed]
            self._bearers.append(record.sequence)

    def finish(self, last: int, *, cut: bool) -> Iterator[Suspicion]:
        """Compares what came by another way, after the last record."""
        for sequence, checkpoint in sorted(self._known.items()):
            seen = self._known_seen.get(sequence)
            if sequence > last and not cut:
                text = f"a signed checkpoint names record {sequence}, but the stream stops at {last}"
                found = Finding(codes.STREAM_TAIL_MISSING, text, self._stream_id, last + 1, sequence)
                yield -1, found
                return
            if seen and seen != checkpoint.hash:
                yield from self._contradiction(checkpoint, seen, "")
            elif seen:
                self.last_signed = max(self.last_signed, sequence)

    def unsigned(self, last: int) -> int:
        """How many records up to ``last`` no signature covers, not counting those that carry one."""
        if self._keys is None:
            return last
        return max(
            0, last - self.last_signed - sum(1 for sequence in self._bearers if sequence > self.last_signed)
        )

    def tail(self, count: int) -> dict[int, str]:
        """The hashes of the last ``count`` records."""
        together = {**self._older, **self._recent} if len(self._recent) < count else self._recent
        return dict(list(together.items())[-count:])

    def _hash_of(self, sequence: int) -> str:
        return self._recent.get(sequence) or self._older.get(sequence, "")

    def _unsigned_note(self, record: StoredRecord, note: SignedNote) -> Iterator[Suspicion]:
        ids = [signature.key_id for signature in note.signatures]
        if any(key_id in (self._keys or {}) for key_id in ids):
            text = "the signature of the checkpoint is false"
            yield record.sequence, self._finding(codes.CHECKPOINT_SIGNATURE, record, text)
            return
        stranger = ",".join(ids) or "none"
        if stranger in self._strangers:
            return  # said once; the count of bad checkpoints says how often
        self._strangers.add(stranger)
        text = f"the checkpoint is signed by key {stranger}, which is not among the trusted keys"
        yield (
            record.sequence,
            self._finding(
                codes.CHECKPOINT_UNKNOWN_KEY,
                record,
                text,
                expected=",".join(sorted(self._keys or {})),
                found=stranger,
            ),
        )

    def _contradiction(self, checkpoint: Checkpoint, seen: str, where: str) -> Iterator[Suspicion]:
        if self._contradicted:
            return  # every later checkpoint contradicts as well
        self._contradicted = True
        start = min(self.last_signed + 1, checkpoint.sequence)
        text = (
            f"a good signature names another hash for record {checkpoint.sequence}: records {start} to "
            f"{checkpoint.sequence} or some of them were changed and the chain was computed again without the key"
        )
        yield (
            checkpoint.sequence,
            Finding(
                codes.CHECKPOINT_MISMATCH,
                text,
                self._stream_id,
                start,
                checkpoint.sequence,
                expected=checkpoint.hash,
                found=seen,
                where=where,
            ),
        )

    def _finding(
        self, code: str, record: StoredRecord, text: str, expected: str = "", found: str = ""
    ) -> Finding:
        return Finding(
            code,
            text,
            self._stream_id,
            record.sequence,
            record.sequence,
            record.record_id,
            expected,
            found,
            where=record.claims.where,
        )
