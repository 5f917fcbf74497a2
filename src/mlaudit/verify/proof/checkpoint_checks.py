"""Compares the signed checkpoints of one stream with its records. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlaudit.errors import ChainError
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, VerifyingKey
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.proof.stored import NOTE, StoredRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# No signer may be slower than half as many records; see mlaudit.pipeline.stream.
_REMEMBERED: Final = 1 << 15

Suspicion = tuple[int, Finding]
"""A finding, and the sequence of the record whose change would explain it."""


class CheckpointChecks:
    """Checks the signatures of one stream: which records they cover, and which records they contradict.

    A checkpoint directly follows the record that it names: the writer holds the chain while it signs. The writer does
    not wait for a remote signer; then some records lie between the two, and the checkpoint must be newer than the
    previous one. A checkpoint that names any other record was not written by the stream's process.

    ``known`` are checkpoints from outside the stream whose signatures are already verified; ``linked`` are the
    sequences of records that other streams name.

    Attributes:
        unsigned_since: time of the oldest record that is neither signed nor carries a signature; "" for unknown or
            none.
        hashes: by sequence, the hashes of the records that other streams name, and of the last record.
    """

    def __init__(
        self,
        stream_id: str,
        keys: Mapping[str, VerifyingKey] | None,
        known: Iterable[Checkpoint] = (),
        linked: Iterable[int] = (),
    ) -> None:
        self.good = 0
        self.bad = 0
        self.last_signed = 0
        self.unsigned_since = ""
        self._stream_id = stream_id
        self._keys = None if keys is None else dict(keys)
        self._known: dict[int, list[Checkpoint]] = {}
        for checkpoint in known:
            self._known.setdefault(checkpoint.sequence, []).append(checkpoint)
        self._watched = self._known.keys() | set(linked)
        self._seen: dict[int, str] = {}
        self._last: tuple[int, str] = (0, "")
        self._recent: dict[int, str] = {}
        self._older: dict[int, str] = {}
        self._signing = 0
        self._unknown_keys: set[str] = set()
        self._contradicted = False

    @property
    def hashes(self) -> dict[int, str]:
        """See the attributes of the class."""
        return {**self._seen, self._last[0]: self._last[1]}

    def add(self, record: StoredRecord) -> None:
        """Adds the next record of the chain."""
        self._last = (record.sequence, record.hash)
        if len(self._recent) >= _REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[record.sequence] = record.hash
        if record.sequence in self._watched:
            self._seen[record.sequence] = record.hash
        if not self.unsigned_since:
            self.unsigned_since = record.time

    def known_hash(self, sequence: int) -> str:
        """The hash of a record according to a checkpoint from outside the stream, or the empty string."""
        checkpoints = self._known.get(sequence)
        return checkpoints[0].hash if checkpoints else ""

    def covers(self, record: StoredRecord) -> tuple[int, str] | None:
        """Sequence and hash of the record that the valid signature in ``record`` covers; None without one."""
        if self._keys is None or record.facts is None or NOTE not in record.facts:
            return None
        try:
            note = SignedNote.parse(str(record.facts[NOTE]))
        except ChainError:
            return None
        checkpoint = note.checkpoint
        if checkpoint.stream_id != self._stream_id or checkpoint.sequence >= record.sequence:
            return None
        key = note.signed_by(self._keys)
        if key is None or (key.not_after and checkpoint.time > key.not_after):
            return None
        return checkpoint.sequence, checkpoint.hash

    def signed_hash(self, record: StoredRecord) -> str:
        """The hash of the previous record according to the valid signature in ``record``, or ""."""
        sequence, digest = self.covers(record) or (0, "")
        return digest if sequence == record.sequence - 1 else ""

    def check(self, record: StoredRecord, before: str) -> Iterator[Suspicion]:
        """Checks the checkpoint in a record; ``before`` is the hash of the previous record, "" for unknown."""
        note_text = (record.facts or {}).get(NOTE)
        try:
            note = SignedNote.parse(note_text if type(note_text) is str else "")
        except ChainError as error:
            self.bad += 1
            yield record.sequence, self._finding(codes.CHECKPOINT_SIGNATURE, record, str(error))
            return
        key = None if self._keys is None else note.signed_by(self._keys)
        if self._keys is not None and key is None:
            self.bad += 1
            yield from self._unsigned_note(record, note)
            return
        checkpoint = note.checkpoint
        if key is not None and key.not_after and checkpoint.time > key.not_after:
            self.bad += 1
            text = f"the checkpoint is signed by key {key.id}, which was retired before"
            values = {"expected": f"not after {key.not_after}", "found": checkpoint.time}
            yield record.sequence, self._finding(codes.CHECKPOINT_RETIRED_KEY, record, text, **values)
            return
        behind = record.sequence - 1 - checkpoint.sequence
        # A signature older than the last one adds no proof, and may be a copy.
        late = 0 < behind <= _REMEMBERED and checkpoint.sequence > self.last_signed
        if late:
            before = self._recent.get(checkpoint.sequence, "") or self._older.get(checkpoint.sequence, "")
            before = before or checkpoint.hash  # that record is missing, which is a finding of its own
        if checkpoint.stream_id != self._stream_id or (behind and not late):
            self.bad += 1
            text = (
                f"the signature covers record {checkpoint.sequence} of stream {checkpoint.stream_id}, "
                "not the previous record"
            )
            yield record.sequence, self._finding(codes.CHECKPOINT_MISMATCH, record, text)
            return
        if checkpoint.hash not in (record.previous_hash, before):
            self.bad += 1
            yield from self._contradiction(checkpoint, before or record.previous_hash, record.claims.where)
            return
        if self._keys is None:
            return
        self.good += 1
        self.last_signed = checkpoint.sequence
        self._signing = 1
        self.unsigned_since = record.time if late else ""

    def finish(self, last: int, *, cut: bool) -> Iterator[Suspicion]:
        """Compares the checkpoints from outside the stream, after the last record."""
        for sequence, checkpoints in sorted(self._known.items()):
            if sequence > last and not cut:
                furthest = max(self._known)
                text = f"a signed checkpoint names record {furthest}, but the stream stops at {last}"
                yield -1, Finding(codes.STREAM_TAIL_MISSING, text, self._stream_id, last + 1, furthest)
                return
            seen = self._seen.get(sequence)
            for checkpoint in checkpoints:
                if seen and seen != checkpoint.hash:
                    yield from self._contradiction(checkpoint, seen, "")
                elif seen and sequence > self.last_signed:
                    self.last_signed, self._signing, self.unsigned_since = sequence, 0, ""

    def unsigned(self, last: int) -> int:
        """The number of records up to ``last`` that no signature covers, without the record that carries it."""
        return last if self._keys is None else max(0, last - self.last_signed - self._signing)

    def _unsigned_note(self, record: StoredRecord, note: SignedNote) -> Iterator[Suspicion]:
        ids = [signature.key_id for signature in note.signatures]
        if any(key_id in (self._keys or {}) for key_id in ids):
            text = "the signature of the checkpoint is invalid"
            yield record.sequence, self._finding(codes.CHECKPOINT_SIGNATURE, record, text)
            return
        unknown = ",".join(ids) or "none"
        if unknown in self._unknown_keys:
            return  # reported once; bad checkpoints are counted
        self._unknown_keys.add(unknown)
        text = f"the checkpoint is signed by key {unknown}, which is not among the trusted keys"
        expected = ",".join(sorted(self._keys or {}))
        found = self._finding(codes.CHECKPOINT_UNKNOWN_KEY, record, text, expected=expected, found=unknown)
        yield record.sequence, found

    def _contradiction(self, checkpoint: Checkpoint, seen: str, where: str) -> Iterator[Suspicion]:
        if self._contradicted:
            return  # every later checkpoint contradicts as well
        self._contradicted = True
        start = min(self.last_signed + 1, checkpoint.sequence)
        text = (
            f"a valid signature names another hash for record {checkpoint.sequence}: records {start} to "
            f"{checkpoint.sequence} or some of them were changed and the chain was recomputed without the key"
        )
        found = Finding(
            codes.CHECKPOINT_MISMATCH,
            text,
            self._stream_id,
            start,
            checkpoint.sequence,
            expected=checkpoint.hash,
            found=seen,
            where=where,
        )
        yield checkpoint.sequence, found

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
