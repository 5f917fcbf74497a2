"""The findings about one stream during its proof: collected, deferred, paired, and limited in number."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding

if TYPE_CHECKING:
    from mlaudit.verify.proof.stored import StoredRecord

_FINDINGS: Final = 10_000


class Findings:
    """Collects findings so that one change gives one finding.

    Attributes:
        changed: sequences of records that are known to be changed; findings that only follow from them are dropped.
        exchanged: by place, the place that its record states as its own.
        suppressed: findings beyond the limit, counted but not kept.
    """

    def __init__(self, stream_id: str) -> None:
        self.changed: set[int] = set()
        self.exchanged: dict[int, int] = {}
        self.suppressed = 0
        self._stream_id = stream_id
        self._findings: list[Finding] = []
        self._deferred: list[tuple[int, Finding]] = []
        self._branch = ("", 0)

    def add(self, code: str, record: StoredRecord | None, text: str, **values: Any) -> None:
        """Adds a finding."""
        if len(self._findings) < _FINDINGS:
            self._findings.append(self.make(code, record, text, **values))
        else:
            self.suppressed += 1

    def reject(self, record: StoredRecord, text: str, *, expected: str) -> None:
        """Adds the finding that a record was inserted; a record that continues the last one joins its finding."""
        tip, index = self._branch
        if tip and record.previous_hash == tip:
            whole = self._findings[index]
            first = whole.sequence
            self._findings[index] = replace(
                whole,
                text=f"records {first} to {record.sequence} are a branch that is not part of the chain",
                through=record.sequence,
            )
            self._branch = (record.hash, index)
            return
        kept = len(self._findings)
        self.add(codes.RECORD_INSERTED, record, text, expected=expected, found=record.hash)
        self._branch = (record.hash, kept) if len(self._findings) > kept else ("", 0)

    def repeat(self, record: StoredRecord) -> None:
        """Adds that a record is stored again; neighbours share a finding: a rollover repeats thousands at a time."""
        last = self._findings[-1] if self._findings else None
        if last is None or last.code != codes.REPLAY_IDENTICAL or record.sequence > last.through + 1:
            self.add(
                codes.REPLAY_IDENTICAL, record, "the same record is stored more than once, byte for byte"
            )
        elif record.sequence > last.through:
            text = f"records {last.sequence} to {record.sequence} are stored more than once, byte for byte"
            self._findings[-1] = replace(last, text=text, through=record.sequence)

    def change(self, record: StoredRecord, text: str, *, expected: str) -> None:
        """Adds the finding that an original was changed."""
        self.changed.add(record.sequence)
        self.add(codes.ORIGINAL_CHANGED, record, text, expected=expected, found=record.hash)

    def defer(self, suspect: int, found: Finding) -> None:
        """Defers a finding until it is known whether it only follows from a change of record ``suspect``."""
        if len(self._deferred) < _FINDINGS:
            self._deferred.append((suspect, found))
        else:
            self.suppressed += 1

    def defer_about(self, record: StoredRecord, code: str, text: str, **values: Any) -> None:
        """Defers a finding about a record that is dropped if the record's original was changed."""
        self.defer(record.sequence, self.make(code, record, text, **values))

    def make(self, code: str, record: StoredRecord | None, text: str, **values: Any) -> Finding:
        """A finding about a record, or with ``sequence`` and ``through`` about a range."""
        stream_id = self._stream_id
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

    def close(self) -> list[Finding]:
        """The findings, with the deferred ones that still apply; ``add`` still adds to the list."""
        self._findings += [found for suspect, found in self._deferred if suspect not in self.changed]
        self._deferred = []
        self._pair_exchanged()
        return self._findings

    def _pair_exchanged(self) -> None:
        pairs = {
            (place, other)
            for place, other in self.exchanged.items()
            if place < other and self.exchanged.get(other) == place
        }
        if not pairs:
            return
        gone = {sequence for pair in pairs for sequence in pair}
        self._findings = [found for found in self._findings if found.sequence not in gone]
        for place, other in sorted(pairs):
            text = f"records {place} and {other} stand in each other's place"
            self.add(codes.ORDER_SWAPPED, None, text, sequence=place, through=other)
