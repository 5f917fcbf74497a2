"""The proof of one stream: from stored records in order to findings. Pure: it uses no file, network or clock.

How a change is attributed to a record: the next record's ``previous_hash`` confirms a record's bytes. So when a link
is broken and the later record is itself confirmed by its successor, the earlier record was changed; when the later
record's own successor does not confirm it either, the later record was changed. One change gives one finding, at the
right record; findings that only follow from it are dropped.

This module checks the chain. ``conflict_resolver`` decides between several records with one sequence, ``inspection``
checks one record on its own, ``checkpoint_checks`` checks signatures and ``namespace_check`` the namespaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlaudit.catalog.names import STREAM_ABANDONED, STREAM_CHECKPOINT, STREAM_ENDED, STREAM_STARTED
from mlaudit.seal.chain import GENESIS
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.checkpoint_checks import CheckpointChecks
from mlaudit.verify.proof.conflict_resolver import ConflictResolver
from mlaudit.verify.proof.findings import Findings
from mlaudit.verify.proof.inspection import inspect
from mlaudit.verify.proof.namespace_check import NamespaceCheck
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
    """Checks the records of one stream, which are fed in the order of their sequences.

    Memory does not grow with the stream; only when several records have one sequence are records kept up to the next
    signature.

    Args:
        stream_id: the stream.
        keys: the trusted verifier keys by id; None checks everything but signatures.
        scope: which part of the stream is checked.
        known: checkpoints of this stream from outside it, already trusted.
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
        self._checkpoints = CheckpointChecks(stream_id, keys, known, self._elsewhere)
        self._findings = Findings(stream_id)
        covers = None if keys is None else self._checkpoints.covers
        self._resolver = ConflictResolver(self._findings, self._take, covers, self._elsewhere)
        self._namespaces = NamespaceCheck(stream_id)
        self._last: StoredRecord | None = None
        self._last_confirmed = False
        self._end = 0

    def feed(self, record: StoredRecord) -> None:
        """Adds the next record; its place is that of the previous record or a later one."""
        self.summary.records += 1
        if record.claims.namespace:
            self._namespaces.add(record)
        self._resolver.add(record)

    @property
    def suppressed(self) -> int:
        """Findings beyond the limit, counted but not kept."""
        return self._findings.suppressed

    def finish(self) -> tuple[StreamSummary, list[Finding]]:
        """The result, after the last record."""
        self._resolver.close()
        summary, checkpoints = self.summary, self._checkpoints
        if self._last is not None:
            summary.last = self._last.sequence
            summary.last_time = self._last.time
            summary.last_id, summary.last_where = self._last.record_id, self._last.claims.where
        summary.tail = checkpoints.hashes
        for suspect, found in checkpoints.finish(summary.last, cut=self._scope.cut_after):
            self._findings.defer(suspect, found)
        for found in self._namespaces.finish():
            self._findings.defer(-1, found)
        summary.checkpoints_good, summary.checkpoints_bad = checkpoints.good, checkpoints.bad
        summary.last_signed = checkpoints.last_signed
        summary.unsigned = checkpoints.unsigned(summary.last)
        findings = self._findings.close()
        self._check_coverage(findings)
        findings.sort(key=lambda found: (found.sequence, found.code))
        return summary, findings

    def _take(self, record: StoredRecord, vouched: str | None) -> None:
        """Checks a chosen record; ``vouched`` is the hash that the next record names for it, None without one."""
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
            self._findings.add(codes.CHAIN_GAP, None, _missing(first, until), sequence=first, through=until)
        else:
            before = last.hash
            if not self._last_confirmed:
                self._check_link(last, record, confirmed)
        if not record.plain:
            inspect(record, self._findings, vouched=vouched, known=known)
        if self._end:
            text = f"the stream ended with record {self._end}; this record follows its end"
            self._findings.reject(record, text, expected="")
        elif record.kind in _ENDS and record.sequence not in self._findings.changed:
            self._end = record.sequence
            self.summary.state = _ENDS[record.kind]
            self.summary.end_facts = record.facts or {}
        self._checkpoints.add(record)
        if record.facts is not None and (record.kind in _SIGNED_KINDS or NOTE in record.facts):
            for suspect, found in self._checkpoints.check(record, before):
                self._findings.defer(suspect, found)
        self._last = record
        self._last_confirmed = bool(confirmed)

    def _begin(self, record: StoredRecord, confirmed: bool | None) -> None:
        summary = self.summary
        summary.first, summary.first_time = record.sequence, record.time
        summary.service, summary.host = record.service, record.host
        if record.sequence > 1:
            if not self._scope.cut_before:
                self._findings.add(
                    codes.STREAM_START_MISSING,
                    None,
                    f"the stream begins with record {record.sequence}: the records before it are missing",
                    sequence=1,
                    through=record.sequence - 1,
                )
            return
        summary.facts = record.facts or {}
        if record.hash_differs or record.fault:
            return
        if record.previous_hash != GENESIS and confirmed is not False:
            self._findings.add(
                codes.CHAIN_BROKEN,
                record,
                "the first record of a stream must not name a previous record",
                expected=GENESIS,
                found=record.previous_hash,
            )
        elif record.kind != STREAM_STARTED:
            self._findings.defer_about(
                record,
                codes.STREAM_START_MISSING,
                "the first record does not name the stream's signing key",
                expected=STREAM_STARTED,
                found=record.kind,
            )

    def _check_link(self, last: StoredRecord, record: StoredRecord, confirmed: bool | None) -> None:
        """Attributes a broken link to one of its two records, once the link after the later record is known."""
        if last.hash == record.previous_hash:
            return
        if last.hash_differs or last.fault or record.hash_differs or record.fault or confirmed is False:
            return  # one of the two has a finding of its own
        if self._end:
            return  # no record after the end of a stream is evidence against it
        signed = self._checkpoints.signed_hash(record)
        if last.hash in (signed, self._elsewhere.get(last.sequence)):
            text = "previous_hash was changed: a signature or another stream confirms the previous record"
        elif confirmed or signed == record.previous_hash:
            self._findings.change(
                last,
                "the original was changed and its stored hash recomputed",
                expected=record.previous_hash,
            )
            return
        else:
            text = "previous_hash is not the hash of the previous record; one of the two was changed"
        self._findings.add(codes.CHAIN_BROKEN, record, text, expected=last.hash, found=record.previous_hash)
        self._findings.changed.add(record.sequence)

    def _check_coverage(self, found_already: list[Finding]) -> None:
        """Adds a finding when no signature covers the last records of a finished or long unsigned stream."""
        summary = self.summary
        since = self._checkpoints.unsigned_since or summary.last_time
        overdue = bool(self._scope.silent_before) and since < self._scope.silent_before
        if self._keys is None or self._scope.cut_after or not summary.unsigned or not (self._end or overdue):
            return
        if any(
            found.severity == "finding" and found.through > summary.last_signed for found in found_already
        ):
            return  # these findings explain the missing signature
        if any(found.code == codes.CHECKPOINT_UNKNOWN_KEY for found in found_already):
            return
        state = "ended" if self._end else f"without a signature since {since}"
        text = f"the stream is {state}, and no signature covers {summary.unsigned} records at its end"
        self._findings.add(
            codes.CHECKPOINT_MISSING, None, text, sequence=summary.last_signed + 1, through=summary.last
        )


def _missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
