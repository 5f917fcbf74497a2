"""The proof of one stream: from stored records in order to findings. Pure: it knows no file, network or clock.

How blame is laid. A record's bytes are vouched for by the next record's ``previous_hash``. So when a link is broken
and the later record is itself confirmed by its successor, the earlier record was changed; when the later record's
own link onward is broken too, the later one was changed. One change gives one finding, at the right record; what only
follows from it is left out.

``election`` decides which record stands for a place that several hold, ``inspection`` looks at one record by itself,
``witness`` at signatures, ``islands`` at where documents lie; here is the chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlaudit.catalog.names import STREAM_ABANDONED, STREAM_CHECKPOINT, STREAM_ENDED, STREAM_STARTED
from mlaudit.seal.chain import GENESIS
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.checkpoint_checks import Witness
from mlaudit.verify.proof.conflict_resolver import Election
from mlaudit.verify.proof.findings import Ledger
from mlaudit.verify.proof.inspection import inspect
from mlaudit.verify.proof.namespace_check import Islands
from mlaudit.verify.proof.stored import NOTE, StoredRecord
from mlaudit.verify.proof.summary import Scope, StreamSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlaudit.seal.checkpoint import Checkpoint, VerifyingKey
    from mlaudit.verify.proof.finding_codes import Finding

_ENDS: Final = {STREAM_ENDED: "ended", STREAM_ABANDONED: "abandoned"}
_SIGNED_KINDS: Final = frozenset({STREAM_CHECKPOINT, STREAM_ENDED, STREAM_ABANDONED})
_WHOLE: Final = Scope()


class StreamProof:
    """Judges the records of one stream, fed in the order of their places.

    Memory does not grow with the stream; only where several records hold one place is everything kept up to the next
    signature.

    Args:
        stream_id: the stream.
        keys: the trusted verifier keys by id; None checks everything but signatures.
        scope: what of the stream is looked at.
        known: checkpoints of this stream that reached the verifier by another way, already trusted.
        linked: hashes of records of this stream, by sequence, that other streams name.
    """

    def __init__(
        self,
        stream_id: str,
        keys: Mapping[str, VerifyingKey] | None,
        scope: Scope = _WHOLE,
        known: Iterable[Checkpoint] = (),
        linked: Mapping[int, str] | None = None,
    ) -> None:
        self.summary = StreamSummary(stream_id, cut_before=scope.cut_before, cut_after=scope.cut_after)
        self._scope = scope
        self._keys = keys
        known = tuple(known)
        self._elsewhere = {**(linked or {}), **{point.sequence: point.hash for point in known}}
        self._witness = Witness(stream_id, keys, known, self._elsewhere)
        self._ledger = Ledger(stream_id)
        covers = None if keys is None else self._witness.covers
        self._election = Election(self._ledger, self._take, covers, self._elsewhere)
        self._islands = Islands(stream_id)
        self._last: StoredRecord | None = None
        self._last_confirmed = False
        self._end = 0

    def feed(self, record: StoredRecord) -> None:
        """Takes the next record; its place is the last one's or a later one."""
        self.summary.records += 1
        if record.claims.namespace:
            self._islands.saw(record)
        self._election.add(record)

    @property
    def suppressed(self) -> int:
        """Findings beyond the limit, counted but not kept."""
        return self._ledger.suppressed

    def finish(self) -> tuple[StreamSummary, list[Finding]]:
        """The result, after the last record."""
        self._election.close()
        summary, witness = self.summary, self._witness
        if self._last is not None:
            summary.last = self._last.sequence
            summary.last_time = self._last.time
            summary.last_id, summary.last_where = self._last.record_id, self._last.claims.where
        summary.tail = witness.hashes
        for suspect, found in witness.finish(summary.last, cut=self._scope.cut_after):
            self._ledger.defer(suspect, found)
        for found in self._islands.finish():
            self._ledger.defer(-1, found)
        summary.checkpoints_good, summary.checkpoints_bad = witness.good, witness.bad
        summary.last_signed = witness.last_signed
        summary.unsigned = witness.unsigned(summary.last)
        findings = self._ledger.close()
        self._judge_cover(findings)
        findings.sort(key=lambda found: (found.sequence, found.code))
        return summary, findings

    def _take(self, record: StoredRecord, vouched: str | None) -> None:
        """Judges an elected record; ``vouched`` is the hash that the next record names for it, None for no next one."""
        last = self._last
        known = self._elsewhere.get(record.sequence, "")
        confirmed = None if vouched is None else record.hash == vouched
        if confirmed is None and known == record.hash:
            confirmed = True
        before = ""
        if last is None:
            self._begin(record, confirmed)
        elif record.sequence != last.sequence + 1:
            first, until = last.sequence + 1, record.sequence - 1
            self._ledger.add(codes.CHAIN_GAP, None, _missing(first, until), sequence=first, through=until)
        else:
            before = last.hash
            if not self._last_confirmed:
                self._settle_last(last, record, confirmed)
        if not record.plain:
            inspect(record, self._ledger, vouched=vouched, known=known)
        if self._end:
            text = f"the stream ended with record {self._end}; this one comes behind"
            self._ledger.reject(record, text, expected="")
        elif record.kind in _ENDS and record.sequence not in self._ledger.changed:
            self._end = record.sequence
            self.summary.state = _ENDS[record.kind]
            self.summary.end_facts = record.facts or {}
        self._witness.saw(record)
        if record.facts is not None and (record.kind in _SIGNED_KINDS or NOTE in record.facts):
            for suspect, found in self._witness.testify(record, before):
                self._ledger.defer(suspect, found)
        self._last = record
        self._last_confirmed = bool(confirmed)

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
        elif record.kind != STREAM_STARTED:
            self._ledger.defer_about(
                record,
                codes.STREAM_START_MISSING,
                "the first record does not say who signs the stream",
                expected=STREAM_STARTED,
                found=record.kind,
            )

    def _settle_last(self, last: StoredRecord, record: StoredRecord, confirmed: bool | None) -> None:
        """Says whose fault a broken link between two records is, now that the later one's own link is known."""
        if last.hash == record.previous_hash:
            return
        if last.hash_differs or last.fault or record.hash_differs or record.fault or confirmed is False:
            return  # the one or the other is named for its own sake
        if self._end:
            return  # nothing that comes behind an end can accuse it
        signed = self._witness.said(record)
        if last.hash in (signed, self._elsewhere.get(last.sequence)):
            text = "previous_hash was changed: a signature or another stream vouches for the record before"
        elif confirmed or signed == record.previous_hash:
            self._ledger.change(
                last,
                "the original was changed and its stored hash computed again",
                expected=record.previous_hash,
            )
            return
        else:
            text = "previous_hash is not the hash of the record before; one of the two was changed"
        self._ledger.add(codes.CHAIN_BROKEN, record, text, expected=last.hash, found=record.previous_hash)
        self._ledger.changed.add(record.sequence)

    def _judge_cover(self, found_already: list[Finding]) -> None:
        """A finished or long unsigned stream whose last records no signature covers is not proven."""
        summary = self.summary
        since = self._witness.unsigned_since or summary.last_time
        overdue = bool(self._scope.silent_before) and since < self._scope.silent_before
        if self._keys is None or self._scope.cut_after or not summary.unsigned or not (self._end or overdue):
            return
        if any(
            found.severity == "finding" and found.through > summary.last_signed for found in found_already
        ):
            return  # they say why
        if any(found.code == codes.CHECKPOINT_UNKNOWN_KEY for found in found_already):
            return
        state = "ended" if self._end else f"without a signature since {since}"
        text = f"the stream is {state}, and {summary.unsigned} records at its end are covered by no signature"
        self._ledger.add(
            codes.CHECKPOINT_MISSING, None, text, sequence=summary.last_signed + 1, through=summary.last
        )


def _missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
