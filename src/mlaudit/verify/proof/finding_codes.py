"""The stable codes of findings.

``CODES`` is the single source: a test compares the documentation with it, and a code never changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Severity = Literal["finding", "information"]

ORIGINAL_CHANGED: Final = "original.changed"
ORIGINAL_MALFORMED: Final = "original.malformed"
HASH_MISMATCH: Final = "hash.mismatch"
SEQUENCE_MISMATCH: Final = "sequence.mismatch"
PROJECTION_CHANGED: Final = "projection.changed"
DOCUMENT_ID: Final = "document.id"
DOCUMENT_PLACE: Final = "document.place"
CHAIN_BROKEN: Final = "chain.broken"
CHAIN_GAP: Final = "chain.gap"
CHAIN_DUPLICATE: Final = "chain.duplicate"
ORDER_SWAPPED: Final = "order.swapped"
RECORD_INSERTED: Final = "record.inserted"
RECORD_REPLAYED: Final = "record.replayed"
REPLAY_IDENTICAL: Final = "replay.identical"
CHECKPOINT_SIGNATURE: Final = "checkpoint.signature"
CHECKPOINT_UNKNOWN_KEY: Final = "checkpoint.unknown_key"
CHECKPOINT_RETIRED_KEY: Final = "checkpoint.retired_key"
CHECKPOINT_MISMATCH: Final = "checkpoint.mismatch"
CHECKPOINT_MISSING: Final = "checkpoint.missing"
STREAM_START_MISSING: Final = "stream.start_missing"
STREAM_TAIL_MISSING: Final = "stream.tail_missing"
STREAM_MISSING: Final = "stream.missing"
STREAM_NOT_ENDED: Final = "stream.not_ended"
TIMESTAMP_INVALID: Final = "timestamp.invalid"
SOURCE_DAMAGED: Final = "source.damaged"
SOURCE_TORN: Final = "source.torn"
SOURCE_QUARANTINED: Final = "source.quarantined"

CODES: Final[dict[str, tuple[Severity, str]]] = {
    ORIGINAL_CHANGED: ("finding", "The original's bytes are not those that were sealed."),
    ORIGINAL_MALFORMED: (
        "finding",
        "The original is not a record of mlaudit: not a JSON object, or without a place in a chain.",
    ),
    HASH_MISMATCH: (
        "finding",
        "The stored hash (event.hash, audit.integrity.value, a frame's digest) is not the original's SHA-256.",
    ),
    SEQUENCE_MISMATCH: ("finding", "The stored sequence (event.sequence, a frame's) is not the original's."),
    PROJECTION_CHANGED: ("finding", "Searchable fields or attributes differ from the original."),
    DOCUMENT_ID: ("finding", "A document is stored under another id than its record's."),
    DOCUMENT_PLACE: (
        "finding",
        "A document lies in another data stream than its record's class, or than the records before and after it.",
    ),
    CHAIN_BROKEN: (
        "finding",
        "previous_hash is not the hash of the previous record, and nothing shows which of the two was changed.",
    ),
    CHAIN_GAP: ("finding", "Records between two others of the stream are missing."),
    CHAIN_DUPLICATE: (
        "finding",
        "Several records with different contents have one sequence, and nothing shows which is genuine.",
    ),
    ORDER_SWAPPED: ("finding", "Two records stand in each other's place."),
    RECORD_INSERTED: (
        "finding",
        "A record that is not part of the chain is stored beside the genuine one or after the end.",
    ),
    RECORD_REPLAYED: ("finding", "The same original is stored again under another document id."),
    REPLAY_IDENTICAL: (
        "information",
        "The same record is stored more than once, byte for byte, under its own id.",
    ),
    CHECKPOINT_SIGNATURE: (
        "finding",
        "A checkpoint is malformed or its signature by a trusted key is invalid.",
    ),
    CHECKPOINT_UNKNOWN_KEY: ("finding", "A checkpoint is signed by a key that is not trusted."),
    CHECKPOINT_RETIRED_KEY: (
        "finding",
        "A checkpoint is signed by a trusted key after that key was retired by a rotation.",
    ),
    CHECKPOINT_MISMATCH: (
        "finding",
        "A valid signature names another hash than the record has: the chain was recomputed without the key.",
    ),
    CHECKPOINT_MISSING: (
        "finding",
        "No signature covers the records at the end of a finished or long silent stream.",
    ),
    STREAM_START_MISSING: ("finding", "The first records of a stream are missing."),
    STREAM_TAIL_MISSING: (
        "finding",
        "A checkpoint or another stream shows that the stream had more records.",
    ),
    STREAM_MISSING: ("finding", "A stream that another stream or a checkpoint names is absent."),
    STREAM_NOT_ENDED: ("finding", "A later stream names this one as ended before it, but it has no end."),
    TIMESTAMP_INVALID: (
        "finding",
        "The time-stamp of an exported checkpoint covers something else, or no trusted authority issued it.",
    ),
    SOURCE_DAMAGED: ("finding", "A part of the source cannot be read."),
    SOURCE_TORN: (
        "information",
        "A crash cut the last write of a file short; it was never acknowledged.",
    ),
    SOURCE_QUARANTINED: ("information", "The spool has quarantined records that no receiver accepted."),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of verification.

    Attributes:
        code: a key of ``CODES``.
        text: the sentence for the reader.
        stream_id, sequence, record_id: the record concerned; empty or 0 where it does not apply.
        through: last sequence of a range that begins with ``sequence``; else equal to ``sequence``.
        expected, found: the two values that disagree, as text.
        fields: names of the searchable fields concerned.
        where: the location in the source: document, or file and line.
    """

    code: str
    text: str
    stream_id: str = ""
    sequence: int = 0
    through: int = 0
    record_id: str = ""
    expected: str = ""
    found: str = ""
    fields: tuple[str, ...] = ()
    where: str = ""

    @property
    def severity(self) -> Severity:
        """``finding`` breaks the proof, ``information`` does not."""
        return CODES[self.code][0]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without empty ones."""
        values = {
            "code": self.code,
            "severity": self.severity,
            "stream_id": self.stream_id,
            "sequence": self.sequence,
            "through": self.through or self.sequence,
            "record_id": self.record_id,
            "expected": self.expected,
            "found": self.found,
            "fields": list(self.fields),
            "where": self.where,
            "text": self.text,
        }
        return {name: value for name, value in values.items() if value}
