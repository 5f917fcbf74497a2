"""What is wrong with one record by itself: its original, and what the store says beside it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.verify.proof import finding_codes as codes

if TYPE_CHECKING:
    from mlaudit.verify.proof.findings import Ledger
    from mlaudit.verify.proof.stored import StoredRecord


def inspect(record: StoredRecord, ledger: Ledger, *, vouched: str | None, known: str) -> None:
    """Compares an elected record with the store's claims about it.

    Args:
        record: the record.
        ledger: takes the findings.
        vouched: the hash that the next record names for it; None when there is no next record.
        known: the hash that a checkpoint or a stream elsewhere gives for it, or "".
    """
    claims = record.claims
    if record.own_sequence and record.own_sequence != record.sequence:
        ledger.exchanged[record.sequence] = record.own_sequence
    elif claims.sequence > 0 and claims.sequence != record.sequence:
        ledger.exchanged[record.sequence] = claims.sequence
    if record.hash_differs:
        if claims.hash == vouched or (vouched is None and claims.hash == known):
            ledger.change(record, "the original was changed after it was sealed", expected=claims.hash)
            return
        confirmed = record.hash in (vouched, known)
        if not confirmed:
            ledger.changed.add(record.sequence)
        text = (
            "the stored hash was changed: the original is the one that was sealed"
            if confirmed
            else "the stored hash is not the original's; one of the two was changed"
        )
        ledger.add(codes.HASH_MISMATCH, record, text, expected=record.hash, found=claims.hash)
        if not confirmed:
            return
    elif record.fault:
        ledger.changed.add(record.sequence)
        ledger.add(codes.ORIGINAL_MALFORMED, record, f"the original is no record: {record.fault}")
        return
    _compare_claims(record, ledger)


def _compare_claims(record: StoredRecord, ledger: Ledger) -> None:
    """Whatever the store says beside an original; all of it only follows where the original was changed."""
    claims = record.claims
    if claims.document_id and claims.document_id != record.record_id:
        text = "the record is stored under another id than its own"
        ledger.defer_about(
            record, codes.DOCUMENT_ID, text, expected=record.record_id, found=claims.document_id
        )
    if claims.sequence and claims.sequence != record.own_sequence:
        ledger.defer_about(
            record,
            codes.SEQUENCE_MISMATCH,
            "the stored sequence is not the original's",
            expected=str(record.own_sequence),
            found=str(claims.sequence) if claims.sequence > 0 else "(absent)",
        )
    if record.misplaced is not None:
        text = "the document lies in another data stream than the one that its record belongs to"
        ledger.defer_about(
            record,
            codes.DOCUMENT_PLACE,
            text,
            expected=record.misplaced.expected,
            found=record.misplaced.found,
        )
    if record.differences:
        first = record.differences[0]
        names = tuple(difference.name for difference in record.differences)
        ledger.defer_about(
            record,
            codes.PROJECTION_CHANGED,
            f"searchable fields differ from the original: {', '.join(names[:5])}"
            + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            expected=first.expected,
            found=first.found,
            fields=names,
        )
