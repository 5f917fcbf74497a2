"""Checks one record on its own: its original, and the fields that the store keeps beside it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.verify.proof import finding_codes as codes

if TYPE_CHECKING:
    from mlaudit.verify.proof.findings import Findings
    from mlaudit.verify.proof.stored import StoredRecord


def inspect(record: StoredRecord, findings: Findings, *, vouched: str | None, known: str) -> None:
    """Compares a chosen record with the store's claims about it.

    Args:
        record: the record.
        findings: receives the findings.
        vouched: the hash that the next record names for it; None when there is no next record.
        known: the hash that another stream, or a checkpoint from outside the stream, names for it, or "".
    """
    claims = record.claims
    if record.own_sequence and record.own_sequence != record.sequence:
        findings.exchanged[record.sequence] = record.own_sequence
    elif claims.sequence > 0 and claims.sequence != record.sequence:
        findings.exchanged[record.sequence] = claims.sequence
    if record.hash_differs:
        if claims.hash == vouched or (vouched is None and claims.hash == known):
            findings.change(record, "the original was changed after it was sealed", expected=claims.hash)
            return
        confirmed = record.hash in (vouched, known)
        if not confirmed:
            findings.changed.add(record.sequence)
        text = (
            "the stored hash was changed: the original is the sealed one"
            if confirmed
            else "the stored hash is not the original's; one of the two was changed"
        )
        findings.add(codes.HASH_MISMATCH, record, text, expected=record.hash, found=claims.hash)
        if not confirmed:
            return
    elif record.fault:
        findings.changed.add(record.sequence)
        findings.add(codes.ORIGINAL_MALFORMED, record, f"the original is not a record: {record.fault}")
        return
    _compare_claims(record, findings)


def _compare_claims(record: StoredRecord, findings: Findings) -> None:
    """Compares the store's other claims; these findings are dropped if the original was changed."""
    claims = record.claims
    if claims.document_id and claims.document_id != record.record_id:
        text = "the record is stored under another id than its own"
        findings.defer_about(
            record, codes.DOCUMENT_ID, text, expected=record.record_id, found=claims.document_id
        )
    if claims.sequence and claims.sequence != record.own_sequence:
        findings.defer_about(
            record,
            codes.SEQUENCE_MISMATCH,
            "the stored sequence is not the original's",
            expected=str(record.own_sequence),
            found=str(claims.sequence) if claims.sequence > 0 else "(absent)",
        )
    if record.misplaced is not None:
        text = "the document lies in another data stream than the one that its record belongs to"
        findings.defer_about(
            record,
            codes.DOCUMENT_PLACE,
            text,
            expected=record.misplaced.expected,
            found=record.misplaced.found,
        )
    if record.differences:
        first = record.differences[0]
        names = tuple(difference.name for difference in record.differences)
        findings.defer_about(
            record,
            codes.PROJECTION_CHANGED,
            f"searchable fields differ from the original: {', '.join(names[:5])}"
            + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            expected=first.expected,
            found=first.found,
            fields=names,
        )
