"""The proof of one stream: from stored records in order to findings. Pure: it knows no file, network or clock.

How blame is laid. A record's bytes are vouched for by the next record's ``previous_hash``. So when a link is broken
and the later record is itself confirmed by its successor, the earlier record was changed; when the later record's
own link onward is broken too, the later one was changed. One change gives one finding, at the right record; what only
follows from it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.seal import finding as codes
from mlaudit.seal.chain import GENESIS
from mlaudit.seal.finding import Finding
from mlaudit.seal.stored import NOTE, StoredRecord
from mlaudit.seal.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlaudit.seal.checkpoint import Checkpoint, VerifyingKey

STARTED: Final = "audit.stream.started"
CHECKPOINT: Final = "audit.stream.checkpoint"
ENDED: Final = "audit.stream.ended"
ABANDONED: Final = "audit.stream.abandoned"
_ENDS: Final = {ENDED: "ended", ABANDONED: "abandoned"}
_SIGNED_KINDS: Final = frozenset({CHECKPOINT, ENDED, ABANDONED})
_TAIL: Final = 64
_FINDINGS: Final = 10_000


@dataclass(slots=True)
class StreamSummary:
    """What is known of one stream after its proof.

    Attributes:
        state: ``open`` (its process may still be running), ``ended`` or ``abandoned``.
        first, last: sequences looked at; ``records`` of them were read.
        last_signed: highest sequence that a good signature covers, 0 for none.
        unsigned: records behind it that carry no signature of their own.
        facts: of its first record: the streams before and above it.
        tail: hashes of the last records by sequence, for the links of other streams.
        cut_before, cut_after: the scope left records before or behind unlooked.
    """

    stream_id: str
    state: str = "open"
    records: int = 0
    first: int = 0
    last: int = 0
    last_signed: int = 0
    unsigned: int = 0
    checkpoints_good: int = 0
    checkpoints_bad: int = 0
    service: str = ""
    host: str = ""
    first_time: str = ""
    last_time: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    tail: dict[int, str] = field(default_factory=dict)
    cut_before: bool = False
    cut_after: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = (
            "stream_id state records first last last_signed unsigned checkpoints_good checkpoints_bad service host"
            " first_time last_time cut_before cut_after"
        )
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a stream the proof gets to see.

    Attributes:
        cut_before: records before the first are left out on purpose, so a start inside is no finding.
        cut_after: the same for the end.
        silent_before: RFC 3339; an open stream without a record since then should have signed everything.
    """

    cut_before: bool = False
    cut_after: bool = False
    silent_before: str = ""


class StreamProof:
    """Judges the records of one stream, fed in the order of their places. Memory does not grow with the stream.

    ``keys`` are the trusted verifier keys by id; None checks everything but signatures. ``known`` are checkpoints
    of this stream that reached the verifier by another way, already trusted.
    """

    def __init__(
        self,
        stream_id: str,
        keys: Mapping[str, VerifyingKey] | None,
        scope: Scope = Scope(),
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
        self._findings: list[Finding] = []
        self._deferred: list[tuple[int, Finding]] = []
        self._changed: set[int] = set()
        self._exchanged: dict[int, int] = {}
        self.suppressed = 0

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
            self._defer(suspect, found)
        summary.checkpoints_good, summary.checkpoints_bad = self._witness.good, self._witness.bad
        summary.last_signed = self._witness.last_signed
        summary.unsigned = self._witness.unsigned(summary.last)
        self._findings += [found for suspect, found in self._deferred if suspect not in self._changed]
        self._pair_exchanged()
        self._judge_cover()
        self._findings.sort(key=lambda found: (found.sequence, found.code))
        return summary, self._findings

    # -- one place -----------------------------------------------------------------------------------------

    def _same_place(self, record: StoredRecord) -> None:
        for index, other in enumerate(self._open):
            if other.hash != record.hash:
                continue
            if other.claims.document_id == record.claims.document_id:
                if record.differences and not other.differences:
                    self._open[index], record = record, other
                self._add(
                    codes.REPLAY_IDENTICAL, record, "the same record is stored more than once, byte for byte"
                )
                return
            if other.claims.document_id != other.record_id:
                self._open[index], record = record, other
            self._add(
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
                self._add(
                    codes.RECORD_INSERTED,
                    record,
                    "this record is not the one that the next record's previous_hash names",
                    expected=chosen.hash,
                    found=record.hash,
                )
            else:
                self._add(
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
            self._add_gap(last.sequence + 1, record.sequence - 1)
        elif not self._last_confirmed:
            self._settle_last(last, record, confirmed)
        if not record.plain:
            self._judge_itself(record, confirmed, vouched or ())
        if self._end and record.kind != CHECKPOINT:
            self._add(
                codes.RECORD_INSERTED,
                record,
                f"the stream ended with record {self._end}; this one comes behind",
            )
        if record.kind in _ENDS and not self._end and record.sequence not in self._changed:
            self._end = record.sequence
            self.summary.state = _ENDS[record.kind]
        self._witness.saw(record)
        if record.facts is not None and (record.kind in _SIGNED_KINDS or NOTE in record.facts):
            for suspect, found in self._witness.testify(record):
                self._defer(suspect, found)
        self._last = record
        self._last_confirmed = confirmed

    def _begin(self, record: StoredRecord, confirmed: bool | None) -> None:
        summary = self.summary
        summary.first, summary.first_time = record.sequence, record.time
        summary.service, summary.host = record.service, record.host
        if record.sequence > 1:
            if not self._scope.cut_before:
                self._add(
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
            self._add(
                codes.CHAIN_BROKEN,
                record,
                "the first record of a stream must follow on nothing",
                expected=GENESIS,
                found=record.previous_hash,
            )
        elif record.kind != STARTED:
            self._defer(
                1,
                self._make(
                    codes.STREAM_START_MISSING,
                    record,
                    "the first record does not say who signs the stream",
                    expected=STARTED,
                    found=record.kind,
                ),
            )

    def _settle_last(self, last: StoredRecord, record: StoredRecord, confirmed: bool | None) -> None:
        """Says whose fault a broken link between two records is, now that the later one's own link is known."""
        if last.hash == record.previous_hash:
            return
        if last.hash_differs or last.fault or record.hash_differs or record.fault or confirmed is False:
            return  # the one or the other is named for its own sake
        signed = self._witness.said(record, last.sequence)
        if confirmed or signed == record.previous_hash:
            self._change(
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
        self._add(codes.CHAIN_BROKEN, record, what, expected=last.hash, found=record.previous_hash)
        self._changed.add(record.sequence)

    def _judge_itself(self, record: StoredRecord, confirmed: bool | None, vouched: Sequence[str]) -> None:
        claims = record.claims
        if record.own_sequence and record.own_sequence != record.sequence:
            self._exchanged[record.sequence] = record.own_sequence
        elif claims.sequence > 0 and claims.sequence != record.sequence:
            self._exchanged[record.sequence] = claims.sequence
        if record.hash_differs:
            witnessed = confirmed is None and self._witness.known_hash(record.sequence) == claims.hash
            if witnessed or claims.hash in vouched:
                self._change(record, "the original was changed after it was sealed", expected=claims.hash)
                return
            self._changed.add(record.sequence)
            text = (
                "the stored hash was changed: the original is the one that the next record names"
                if confirmed
                else "the stored hash is not the original's; one of the two was changed"
            )
            self._add(codes.HASH_MISMATCH, record, text, expected=record.hash, found=claims.hash)
            if not confirmed:
                return
        elif record.fault:
            self._changed.add(record.sequence)
            self._add(codes.ORIGINAL_MALFORMED, record, f"the original is no record: {record.fault}")
            return
        if claims.document_id and claims.document_id != record.record_id:
            text = "the record is stored under another id than its own"
            self._defer(
                record.sequence,
                self._make(
                    codes.DOCUMENT_ID, record, text, expected=record.record_id, found=claims.document_id
                ),
            )
        if claims.sequence and claims.sequence != record.own_sequence:
            self._defer(
                record.sequence,
                self._make(
                    codes.SEQUENCE_MISMATCH,
                    record,
                    "the stored sequence is not the original's",
                    expected=str(record.own_sequence),
                    found=str(claims.sequence) if claims.sequence > 0 else "(absent)",
                ),
            )
        if record.differences:
            first = record.differences[0]
            names = tuple(difference.name for difference in record.differences)
            self._defer(
                record.sequence,
                self._make(
                    codes.PROJECTION_CHANGED,
                    record,
                    f"searchable fields differ from the original: {', '.join(names[:5])}"
                    + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
                    expected=first.expected,
                    found=first.found,
                    fields=names,
                ),
            )

    # -- findings ------------------------------------------------------------------------------------------

    def _pair_exchanged(self) -> None:
        pairs = {
            (place, other)
            for place, other in self._exchanged.items()
            if place < other and self._exchanged.get(other) == place
        }
        if not pairs:
            return
        gone = {sequence for pair in pairs for sequence in pair}
        self._findings = [found for found in self._findings if found.sequence not in gone]
        for place, other in sorted(pairs):
            text = f"records {place} and {other} stand in each other's place"
            self._add(codes.ORDER_SWAPPED, None, text, sequence=place, through=other)

    def _judge_cover(self) -> None:
        """A finished or long silent stream whose last records no signature covers is not proven."""
        summary = self.summary
        silent = bool(self._scope.silent_before) and summary.last_time < self._scope.silent_before
        if self._keys is None or self._scope.cut_after or not summary.unsigned or not (self._end or silent):
            return
        if any(
            found.severity == "finding" and found.through > summary.last_signed for found in self._findings
        ):
            return  # they say why
        if any(found.code == codes.CHECKPOINT_UNKNOWN_KEY for found in self._findings):
            return
        state = "ended" if self._end else f"silent since {summary.last_time}"
        text = f"the stream is {state}, and {summary.unsigned} records at its end are covered by no signature"
        self._add(
            codes.CHECKPOINT_MISSING, None, text, sequence=summary.last_signed + 1, through=summary.last
        )

    def _add_gap(self, start: int, end: int) -> None:
        text = f"record {start} is missing" if start == end else f"records {start} to {end} are missing"
        self._add(codes.CHAIN_GAP, None, text, sequence=start, through=end)

    def _change(self, record: StoredRecord, text: str, *, expected: str) -> None:
        self._changed.add(record.sequence)
        self._add(codes.ORIGINAL_CHANGED, record, text, expected=expected, found=record.hash)

    def _defer(self, suspect: int, found: Finding) -> None:
        """Keeps a finding back until it is known whether it only follows from a change of ``suspect``."""
        if len(self._deferred) < _FINDINGS:
            self._deferred.append((suspect, found))
        else:
            self.suppressed += 1

    def _add(self, code: str, record: StoredRecord | None, text: str, **values: Any) -> None:
        if len(self._findings) < _FINDINGS:
            self._findings.append(self._make(code, record, text, **values))
        else:
            self.suppressed += 1

    def _make(self, code: str, record: StoredRecord | None, text: str, **values: Any) -> Finding:
        stream_id = self.summary.stream_id
        if record is None:
            return Finding(code, text, stream_id, **values)
        sequence = record.sequence
        values.setdefault("through", sequence)
        return Finding(
            code,
            text,
            stream_id,
            sequence,
            record_id=record.record_id or record.claims.document_id,
            where=record.claims.where,
            **values,
        )
