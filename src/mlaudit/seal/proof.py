"""The proof of one stream: from stored records in order to findings. Pure: it knows no file, network or clock.

How blame is laid. A record's bytes are vouched for by the next record's ``previous_hash``. So when a link is broken
and the later record is itself confirmed by its successor, the earlier record was changed; when the later record's
own link onward is broken too, the later one was changed. One change gives one finding, at the right record; what only
follows from it is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlaudit.seal import finding as codes
from mlaudit.seal.chain import GENESIS
from mlaudit.seal.ledger import Ledger
from mlaudit.seal.stored import NOTE, StoredRecord
from mlaudit.seal.summary import Scope, StreamSummary
from mlaudit.seal.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlaudit.seal.checkpoint import Checkpoint, VerifyingKey
    from mlaudit.seal.finding import Finding

STARTED: Final = "audit.stream.started"
CHECKPOINT: Final = "audit.stream.checkpoint"
ENDED: Final = "audit.stream.ended"
ABANDONED: Final = "audit.stream.abandoned"
_ENDS: Final = {ENDED: "ended", ABANDONED: "abandoned"}
_SIGNED_KINDS: Final = frozenset({CHECKPOINT, ENDED, ABANDONED})
_TAIL: Final = 64
_WHOLE: Final = Scope()


class StreamProof:
    """Judges the records of one stream, fed in the order of their places. Memory does not grow with the stream.

    ``keys`` are the trusted verifier keys by id; None checks everything but signatures. ``known`` are checkpoints
    of this stream that reached the verifier by another way, already trusted.
    """

    def __init__(
        self,
        stream_id: str,
        keys: Mapping[str, VerifyingKey] | None,
        scope: Scope = _WHOLE,
        known: Iterable[Checkpoint] = (),
    ) -> None:
        self.summary = StreamSummary(stream_id, cut_before=scope.cut_before, cut_after=scope.cut_after)
        self._scope = scope
        self._keys = keys
        self._witness = Witness(stream_id, keys, known)
        self._open: list[StoredRecord] = []
        self._waiting: list[StoredRecord] = []
        self._last: StoredRecord | None = None
        self._last_confirmed: bool | None = None
        self._end = 0
        self._ledger = Ledger(stream_id)

    def feed(self, record: StoredRecord) -> None:
        """Takes the next record; its place is the last one's or a later one."""
        self.summary.records += 1
        current = self._open
        if current and record.sequence == current[0].sequence:
            self._same_place(record)
            return
        if current:
            if self._waiting:
                self._elect(self._waiting, current)
            self._waiting = current
        self._open = [record]

    @property
    def suppressed(self) -> int:
        """Findings beyond the limit, counted but not kept."""
        return self._ledger.suppressed

    def finish(self) -> tuple[StreamSummary, list[Finding]]:
        """The result, after the last record."""
        if self._waiting:
            self._elect(self._waiting, self._open)
        if self._open:
            self._elect(self._open, [])
        self._open = self._waiting = []
        summary = self.summary
        if self._last is not None:
            summary.last = self._last.sequence
            summary.last_time = self._last.time
        summary.tail = self._witness.tail(_TAIL)
        for suspect, found in self._witness.finish(summary.last, cut=self._scope.cut_after):
            self._ledger.defer(suspect, found)
        summary.checkpoints_good, summary.checkpoints_bad = self._witness.good, self._witness.bad
        summary.last_signed = self._witness.last_signed
        summary.unsigned = self._witness.unsigned(summary.last)
        findings = self._ledger.close()
        self._judge_cover(findings)
        findings.sort(key=lambda found: (found.sequence, found.code))
        return summary, findings

    # -- one place -----------------------------------------------------------------------------------------

    def _same_place(self, record: StoredRecord) -> None:
        for index, other in enumerate(self._open):
            if other.hash != record.hash:
                continue
            if other.claims.document_id == record.claims.document_id:
                if record.differences and not other.differences:
                    self._open[index], record = record, other
                self._ledger.add(
                    codes.REPLAY_IDENTICAL, record, "the same record is stored more than once, byte for byte"
                )
                return
            if other.claims.document_id != other.record_id:
                self._open[index], record = record, other
            self._ledger.add(
                codes.RECORD_REPLAYED,
                record,
                "the same original is stored once more under another document id",
                expected=record.record_id,
                found=record.claims.document_id,
            )
            return
        self._open.append(record)

    def _elect(self, candidates: list[StoredRecord], following: list[StoredRecord]) -> None:
        adjacent = bool(following) and following[0].sequence == candidates[0].sequence + 1
        vouched = [record.previous_hash for record in following] if adjacent else ()
        record = candidates[0]
        if len(candidates) > 1:
            record = self._choose(candidates, vouched)
        self._take(record, vouched if adjacent else None)

    def _choose(self, candidates: list[StoredRecord], vouched: Sequence[str]) -> StoredRecord:
        confirmed = [record for record in candidates if record.hash in vouched]
        head = self._last.hash if self._last is not None else GENESIS
        ranked = sorted(candidates, key=lambda record: (record.previous_hash != head, not record.plain))
        chosen = confirmed[0] if len(confirmed) == 1 else ranked[0]
        for record in candidates:
            if record is chosen:
                continue
            if len(confirmed) == 1:
                self._ledger.add(
                    codes.RECORD_INSERTED,
                    record,
                    "this record is not the one that the next record's previous_hash names",
                    expected=chosen.hash,
                    found=record.hash,
                )
            else:
                self._ledger.add(
                    codes.CHAIN_DUPLICATE,
                    record,
                    "two records hold this sequence with different contents; nothing after them shows which is genuine",
                    expected=chosen.hash,
                    found=record.hash,
                )
        return chosen

    # -- the chain -----------------------------------------------------------------------------------------

    def _take(self, record: StoredRecord, vouched: Sequence[str] | None) -> None:
        """Judges an elected record; ``vouched`` are the next place's previous hashes, None when it is missing."""
        last = self._last
        confirmed = None if vouched is None else record.hash in vouched
        if last is None:
            self._begin(record, confirmed)
        elif record.sequence != last.sequence + 1:
            first, until = last.sequence + 1, record.sequence - 1
            self._ledger.add(codes.CHAIN_GAP, None, _missing(first, until), sequence=first, through=until)
        elif not self._last_confirmed:
            self._settle_last(last, record, confirmed)
        if not record.plain:
            self._judge_itself(record, confirmed, vouched or ())
        if self._end and record.kind != CHECKPOINT:
            self._ledger.add(
                codes.RECORD_INSERTED,
                record,
                f"the stream ended with record {self._end}; this one comes behind",
            )
        if record.kind in _ENDS and not self._end and record.sequence not in self._ledger.changed:
            self._end = record.sequence
            self.summary.state = _ENDS[record.kind]
        self._witness.saw(record)
        if record.facts is not None and (record.kind in _SIGNED_KINDS or NOTE in record.facts):
            for suspect, found in self._witness.testify(record):
                self._ledger.defer(suspect, found)
        self._last = record
        self._last_confirmed = confirmed

    def _begin(self, record: StoredRecord, confirmed: bool | None) -> None:
        summary = self.summary
        summary.first, summary.first_time = record.sequence, record.time
        summary.service, summary.host = record.service, record.host
        if record.sequence > 1:
            if not self._scope.cut_before:
                self._ledger.add(
                    codes.STREAM_START_MISSING,
                    None,
                    f"the stream begins with record {record.sequence}: what came before is missing",
                    sequence=1,
                    through=record.sequence - 1,
                )
            return
        summary.facts = record.facts or {}
        if record.hash_differs or record.fault:
            return
        if record.previous_hash != GENESIS and confirmed is not False:
            self._ledger.add(
                codes.CHAIN_BROKEN,
                record,
                "the first record of a stream must follow on nothing",
                expected=GENESIS,
                found=record.previous_hash,
            )
        elif record.kind != STARTED:
            self._ledger.defer_about(
                record,
                codes.STREAM_START_MISSING,
                "the first record does not say who signs the stream",
                expected=STARTED,
                found=record.kind,
            )

    def _settle_last(self, last: StoredRecord, record: StoredRecord, confirmed: bool | None) -> None:
        """Says whose fault a broken link between two records is, now that the later one's own link is known."""
        if last.hash == record.previous_hash:
            return
        if last.hash_differs or last.fault or record.hash_differs or record.fault or confirmed is False:
            return  # the one or the other is named for its own sake
        signed = self._witness.said(record, last.sequence)
        if confirmed or signed == record.previous_hash:
            self._ledger.change(
                last,
                "the original was changed and its stored hash computed again",
                expected=record.previous_hash,
            )
            return
        what = (
            "previous_hash was changed: a signature vouches for the record before"
            if last.sequence <= self._witness.last_signed
            else "previous_hash is not the hash of the record before; one of the two was changed"
        )
        self._ledger.add(codes.CHAIN_BROKEN, record, what, expected=last.hash, found=record.previous_hash)
        self._ledger.changed.add(record.sequence)

    def _judge_itself(self, record: StoredRecord, confirmed: bool | None, vouched: Sequence[str]) -> None:
        claims = record.claims
        if record.own_sequence and record.own_sequence != record.sequence:
            self._ledger.exchanged[record.sequence] = record.own_sequence
        elif claims.sequence > 0 and claims.sequence != record.sequence:
            self._ledger.exchanged[record.sequence] = claims.sequence
        if record.hash_differs:
            witnessed = confirmed is None and self._witness.known_hash(record.sequence) == claims.hash
            if witnessed or claims.hash in vouched:
                self._ledger.change(
                    record, "the original was changed after it was sealed", expected=claims.hash
                )
                return
            if not confirmed:
                self._ledger.changed.add(record.sequence)
            text = (
                "the stored hash was changed: the original is the one that the next record names"
                if confirmed
                else "the stored hash is not the original's; one of the two was changed"
            )
            self._ledger.add(codes.HASH_MISMATCH, record, text, expected=record.hash, found=claims.hash)
            if not confirmed:
                return
        elif record.fault:
            self._ledger.changed.add(record.sequence)
            self._ledger.add(codes.ORIGINAL_MALFORMED, record, f"the original is no record: {record.fault}")
            return
        if claims.document_id and claims.document_id != record.record_id:
            text = "the record is stored under another id than its own"
            self._ledger.defer_about(
                record, codes.DOCUMENT_ID, text, expected=record.record_id, found=claims.document_id
            )
        if claims.sequence and claims.sequence != record.own_sequence:
            self._ledger.defer_about(
                record,
                codes.SEQUENCE_MISMATCH,
                "the stored sequence is not the original's",
                expected=str(record.own_sequence),
                found=str(claims.sequence) if claims.sequence > 0 else "(absent)",
            )
        if record.differences:
            first = record.differences[0]
            names = tuple(difference.name for difference in record.differences)
            self._ledger.defer_about(
                record,
                codes.PROJECTION_CHANGED,
                f"searchable fields differ from the original: {', '.join(names[:5])}"
                + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
                expected=first.expected,
                found=first.found,
                fields=names,
            )

    def _judge_cover(self, found_already: list[Finding]) -> None:
        """A finished or long silent stream whose last records no signature covers is not proven."""
        summary = self.summary
        silent = bool(self._scope.silent_before) and summary.last_time < self._scope.silent_before
        if self._keys is None or self._scope.cut_after or not summary.unsigned or not (self._end or silent):
            return
        if any(
            found.severity == "finding" and found.through > summary.last_signed for found in found_already
        ):
            return  # they say why
        if any(found.code == codes.CHECKPOINT_UNKNOWN_KEY for found in found_already):
            return
        state = "ended" if self._end else f"silent since {summary.last_time}"
        text = f"the stream is {state}, and {summary.unsigned} records at its end are covered by no signature"
        self._ledger.add(
            codes.CHECKPOINT_MISSING, None, text, sequence=summary.last_signed + 1, through=summary.last
        )


def _missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
