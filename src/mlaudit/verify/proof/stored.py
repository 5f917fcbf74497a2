"""A record as a store returns it: the original's bytes, and the store's claims about them. Pure.

Nothing of it is trusted. ``observe`` computes the hash, reads from the original what a proof needs, and decides at
which place of which stream the record is checked, so that a changed sequence number does not hide a record.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOTE: Final = "audit.checkpoint.note"
_FACTS: Final = (
    NOTE,
    "audit.checkpoint.sequence",
    "audit.checkpoint.hash",
    "audit.stream.previous.id",
    "audit.stream.previous.sequence",
    "audit.stream.previous.hash",
    "audit.stream.parent.id",
    "audit.stream.adopted_by",
    "audit.stream.key_id",
)


class Difference(NamedTuple):
    """A searchable field or attribute that differs from the original."""

    name: str
    expected: str
    found: str


class Claims(NamedTuple):
    """A store's claims about an original; empty or 0 where there is none.

    Attributes:
        document_id: the record id that the store names: the attribute audit.record.id; from Elasticsearch the
            record's own id where the document has the id that belongs to it, else the document's.
        hash: the stored hash, lower hex.
        sequence: the stored sequence; -1 where a required one is missing.
        places: every (stream id, sequence) that the store names for it, independent of each other; either may be
            empty.
        where: the location, for the reader.
        namespace: the namespace of the data stream that holds it.
    """

    document_id: str = ""
    hash: str = ""
    sequence: int = 0
    places: tuple[tuple[str, int], ...] = ()
    where: str = ""
    namespace: str = ""


@dataclass(slots=True)
class StoredRecord:
    """One stored record, ready for the proof; the original itself is no longer held.

    ``stream_id`` and ``sequence`` are the place at which it is checked; ``own_sequence`` comes from the original.
    ``fault`` says what the original lacks to be a record. ``plain`` is True when only the record's link to the
    previous one needs a check. ``contested`` is the place that the store names instead, when original and hash match
    but the store disagrees: see ``settle_contested``. ``misplaced`` names the expected and the actual data stream when
    they differ.
    """

    stream_id: str
    sequence: int
    hash: str
    previous_hash: str
    kind: str
    record_id: str
    time: str
    claims: Claims
    own_sequence: int
    fault: str = ""
    facts: dict[str, Any] | None = None
    service: str = ""
    host: str = ""
    differences: Sequence[Difference] = field(default=())
    plain: bool = False
    contested: tuple[str, int] | None = None
    misplaced: Difference | None = None

    @property
    def hash_differs(self) -> bool:
        """Whether the store names a hash that is not the original's."""
        return bool(self.claims.hash) and self.claims.hash != self.hash


def document_id(record_id: object, digest: str) -> str:
    """The id under which the collector stores a record: the record's id and the first half of its hash.

    A record whose id is not a UUID is stored under its whole hash. The content is part of the id, so a guessed id does
    not block the record that will have it.
    """
    known = type(record_id) is str and _UUID.fullmatch(record_id)
    return f"{record_id}-{digest[:32]}" if known else digest


def parse_original(original: bytes) -> dict[str, Any] | None:
    """The fields of an original, or None when it is not one JSON object."""
    try:
        fields = orjson.loads(original)
    except (ValueError, RecursionError):
        return None
    return fields if type(fields) is dict else None


def observe(
    original: bytes,
    fields: dict[str, Any] | None,
    claims: Claims,
    differences: Sequence[Difference] = (),
    misplaced: Difference | None = None,
) -> StoredRecord:
    """Collects what the proof needs from one stored original.

    Args:
        original: its exact bytes.
        fields: ``parse_original(original)``.
        claims: the store's claims about it.
        differences: of searchable fields, compared by the caller, which knows the store's format.
        misplaced: see ``StoredRecord``; also compared by the caller.
    """
    digest = sha256(original).hexdigest()
    if fields is None:
        stream_id, sequence = _settle("", 0, claims, trusted=False)
        return StoredRecord(
            stream_id,
            sequence,
            digest,
            "",
            "",
            "",
            "",
            claims,
            0,
            "not a JSON object",
            None,
            "",
            "",
            differences,
        )
    get = fields.get
    own_stream = get("audit.sequence.stream_id")
    own_sequence = get("audit.sequence.number")
    previous = get("audit.sequence.previous_hash")
    kind = get("audit.kind")
    record_id = get("audit.record.id")
    fault = ""
    if type(own_stream) is not str or not own_stream:
        own_stream, fault = "", "no audit.sequence.stream_id"
    if type(own_sequence) is not int or own_sequence < 1:
        own_sequence, fault = 0, "no audit.sequence.number of 1 or more"
    if type(previous) is not str or not _HASH.fullmatch(previous):
        previous, fault = "", "no audit.sequence.previous_hash of 64 hex digits"
    if type(kind) is not str or not kind:
        kind, fault = "", "no audit.kind"
    if type(record_id) is not str or not record_id:
        record_id, fault = "", "no audit.record.id"
    same_hash = not claims.hash or claims.hash == digest
    stream_id, sequence = own_stream, own_sequence
    agreed = same_hash and not fault
    contested: tuple[str, int] | None = None
    for place in claims.places:
        if (place[1] and place[1] != own_sequence) or (place[0] and place[0] != own_stream):
            agreed = False
            stream_id, sequence = _settle(own_stream, own_sequence, claims, trusted=same_hash)
            if same_hash and not fault:
                contested = _settle(own_stream, own_sequence, claims, trusted=False)
            break
    about_stream = kind.startswith("audit.stream.") or NOTE in fields
    return StoredRecord(
        stream_id,
        sequence,
        digest,
        previous,
        kind,
        record_id,
        _text(get("@timestamp")),
        claims,
        own_sequence,
        fault,
        {name: fields[name] for name in _FACTS if name in fields} if about_stream else None,
        _text(get("service.name")) if own_sequence == 1 or about_stream else "",
        _text(get("host.name")) if own_sequence == 1 or about_stream else "",
        differences,
        agreed
        and not about_stream
        and not differences
        and misplaced is None
        and (not claims.document_id or claims.document_id == record_id)
        and (not claims.sequence or claims.sequence == own_sequence),
        contested,
        misplaced,
    )


def settle_contested(contested: Sequence[StoredRecord], others: Iterable[StoredRecord]) -> None:
    """Decides the place of records for which original and store disagree although the hash matches.

    Either the store's claim was changed: then the original is part of the chain, because another record names its
    hash, or it names the hash of the record before its own place. Or the original was changed and hashed again: then
    it is not part of the chain, and its place is the one that the store names.

    Args:
        contested: records with ``contested`` set; their places are changed.
        others: every other record.
    """
    hashes = {record.hash for record in contested}
    before = {record.previous_hash for record in contested}
    followed: set[str] = set()
    places: set[tuple[str, int]] = set()
    for record in chain(contested, others):
        if record.previous_hash in hashes:
            followed.add(record.previous_hash)
        if record.hash in before:
            places.add((record.hash, record.own_sequence))
    for record in contested:
        known = record.hash in followed or (record.previous_hash, record.own_sequence - 1) in places
        if not known and record.contested is not None:
            record.stream_id, record.sequence = record.contested


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _settle(own_stream: str, own_sequence: int, claims: Claims, *, trusted: bool) -> tuple[str, int]:
    """The place at which a record is checked when its original and the store disagree.

    It is the place with the most votes: two of the original when its hash matches (else none), one of each claim.
    """
    streams = Counter(place[0] for place in claims.places if place[0])
    sequences = Counter(place[1] for place in claims.places if place[1] > 0)
    weight = 2 if trusted else 0
    if own_stream:
        streams[own_stream] += weight
    if own_sequence:
        sequences[own_sequence] += weight
    return _majority(streams, own_stream, ""), _majority(sequences, own_sequence, 0)


def _majority(votes: Counter[Any], own: Any, none: Any) -> Any:
    if not votes:
        return none
    best = max(votes.values())
    return (
        own if own and votes[own] == best else next(value for value, count in votes.items() if count == best)
    )
