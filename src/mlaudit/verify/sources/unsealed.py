"""Documents that no process sealed: the collector's own observations, flagged ``mlaudit.unsealed``. Never proven."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import (
    HOST_HARDWARE_FAILED,
    HOST_MAINTENANCE,
    HOST_RESOURCE_EXHAUSTED,
    INFRASTRUCTURE_CHANGED,
)
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.proof.stored import parse_original
from mlaudit.verify.sources.projection import (
    ABSENT,
    UNSEALED,
    compare_document,
    data_stream,
    misplaced,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What system.yaml and kubernetes.yaml make. Anything else must be sealed, whatever flag it carries.
UNSEALED_KINDS: Final = frozenset(
    {
        HOST_HARDWARE_FAILED,
        HOST_MAINTENANCE,
        HOST_RESOURCE_EXHAUSTED,
        INFRASTRUCTURE_CHANGED,
    }
)
_PLACE: Final = "audit.sequence."


def examine_unsealed(hit: Mapping[str, Any]) -> list[Finding] | None:
    """Contradictions within an unsealed document; None for a document that has to be sealed.

    The flag alone exempts no document from the check. It counts only where neither the original nor a searchable
    field names a place in a stream, and for the kinds that the collector makes: a sealed record to which somebody adds
    the flag is checked as before, and one whose place was removed too leaves a gap in its stream.

    Nothing protects such a document: comparing hash, fields and id with the original reveals careless changes only.
    """
    document = hit["_source"]
    if document.get(UNSEALED) is not True or "event.sequence" in document or _has_place(document):
        return None
    text = document.get("event.original")
    original = text.encode("utf-8", "surrogatepass") if type(text) is str else b""
    fields = parse_original(original)
    if fields is None or _has_place(fields) or fields.get("audit.kind") not in UNSEALED_KINDS:
        return None
    where = f"{hit['_index']}/{hit['_id']}"
    record_id = str(fields.get("audit.record.id", ""))
    found: list[Finding] = []

    def note(code: str, text: str, expected: str, actual: str, names: tuple[str, ...] = ()) -> None:
        found.append(
            Finding(
                code,
                f"unsealed document: {text}",
                record_id=record_id,
                expected=expected,
                found=actual,
                fields=names,
                where=where,
            )
        )

    digest = sha256(original).hexdigest()
    if document.get("event.hash") != digest:
        stored = shown(document.get("event.hash", ABSENT))
        note(codes.HASH_MISMATCH, "the stored hash is not the original's", digest, stored)
    if hit["_id"] != record_id:
        note(codes.DOCUMENT_ID, "it is stored under another id than its record's", record_id, str(hit["_id"]))
    class_, namespace = data_stream(hit["_index"])
    if (place := misplaced(class_, namespace, fields)) is not None:
        note(codes.DOCUMENT_PLACE, "it lies in another data stream", place.expected, place.found)
    expected = {name: value for name, value in document.items() if name != UNSEALED}
    if differences := compare_document(expected, fields, class_, namespace):
        names = tuple(difference.name for difference in differences)
        text = f"{', '.join(names)} differ from the original"
        note(codes.PROJECTION_CHANGED, text, differences[0].expected, differences[0].found, names)
    return found


def _has_place(fields: Mapping[str, Any]) -> bool:
    return any(name.startswith(_PLACE) for name in fields)
