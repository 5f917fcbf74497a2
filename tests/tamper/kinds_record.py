"""Tampers with one record: its original, searchable fields, id, hash, sequence and place."""

from __future__ import annotations

import json
from typing import Any

from tests.tamper.entry import NUMBER, Entry
from tests.tamper.scene import Expected, Scene, Tamper, altered
from tests.tamper.stores import Edit

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def one(entry: Entry, new: Entry, *expected: Expected) -> Tamper:
    """Replaces a record by another."""
    return Tamper(Edit(changed={entry: new}), list(expected))


def flipped_byte(scene: Scene) -> Tamper:
    """One character of the original is changed, and nothing else."""
    entry = scene.any_entry()
    text = entry.original.decode()
    position = scene.random.randrange(len(text))
    letter = scene.random.choice([letter for letter in _LETTERS if letter != text[position]])
    original = (text[:position] + letter + text[position + 1 :]).encode()
    code = "original.changed" if scene.vouched(entry) else "hash.mismatch"
    return Tamper(
        Edit(changed={entry: entry.with_original(original, stated=False, projected=False)}),
        # The changed character may be in the id.
        [Expected(code, entry.stream, entry.sequence, entry.sequence)],
    )


def _changed_field(scene: Scene, *, stated: bool, projected: bool) -> Tamper:
    entry = scene.any_entry()
    while stated and not scene.vouched(entry):
        entry = scene.any_entry()
    name, value = scene.random.choice(
        [
            ("audit__outcome", "unknown"),
            ("message", "nothing happened"),
            ("audit__actor__id", "somebody-else"),
            ("ml__prediction__rows", 99_999),
            ("source__ip", "203.0.113.9"),
            ("labels", {"team": "other"}),
        ]
    )
    original = altered(entry.original, **{name: value})
    code = "original.changed" if scene.vouched(entry) else "hash.mismatch"
    new = entry.with_original(original, stated=stated, projected=projected)
    return one(entry, new, scene.blamed(entry) if stated else scene.at(entry, code))


def changed_field(scene: Scene) -> Tamper:
    """A field of the original is changed, but not the stored hash."""
    return _changed_field(scene, stated=False, projected=False)


def changed_field_hashed(scene: Scene) -> Tamper:
    """A field of the original is changed and the stored hash recomputed."""
    return _changed_field(scene, stated=True, projected=False)


def changed_field_hashed_projected(scene: Scene) -> Tamper:
    """As above, with the searchable fields and the document id changed to match."""
    return _changed_field(scene, stated=True, projected=True)


def changed_link(scene: Scene) -> Tamper:
    """The previous hash in an original is changed, and the stored hash recomputed."""
    entry = scene.any_entry(first=2)
    while not scene.vouched(entry):
        entry = scene.any_entry(first=2)
    original = altered(entry.original, audit__sequence__previous_hash="f" * 64)
    return one(
        entry,
        entry.with_original(original, stated=True, projected=True),
        scene.blamed(entry),
    )


def changed_stream_id(scene: Scene) -> Tamper:
    """The stream in an original is changed to another existing one."""
    entry = scene.any_entry()
    other = scene.any_stream({stream for stream in scene.streams if stream != entry.stream})
    original = altered(entry.original, audit__sequence__stream_id=other)
    code = "original.changed" if scene.vouched(entry) else "hash.mismatch"
    return one(entry, entry.with_original(original, stated=False, projected=False), scene.at(entry, code))


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, list):
        return [*value[1:], "other"]
    return {**value, "other": "x"}


def searchable_field(scene: Scene) -> Tamper:
    """A searchable field or an attribute of any type has another value."""
    entry = scene.any_entry(last=-1)
    searchable = entry.searchable
    # In files these are the store's id, hash and sequence, which have their own kinds.
    claims = {
        "elasticsearch": (),
        "archive": ("audit.record.id", "audit.integrity.value", NUMBER),
        "spool": ("audit.record.id", "audit.integrity.value"),
    }[scene.store.name]
    by_type: dict[str, list[str]] = {}
    for name in sorted(searchable):
        if name not in claims:
            by_type.setdefault(_type(name, searchable[name]), []).append(name)
    name = scene.random.choice(by_type[scene.random.choice(sorted(by_type))])
    old, new = searchable[name], _other(searchable[name])
    if name == "source.ip":
        new = "203.0.113.9"
    elif name in ("@timestamp", "timeUnixNano"):
        new = old.replace("1", "0", 1) if "1" in old else old.replace("2", "1", 1)
        new = str(int(old) + 1) if name == "timeUnixNano" else new
    elif name in ("traceId", "spanId"):
        new = ("1" if old[0] != "1" else "2") + old[1:]
    named = {
        "eventName": "EventName",
        "timeUnixNano": "Timestamp",
        "traceId": "TraceId",
        "spanId": "SpanId",
    }.get(name, name)
    return one(entry, entry.with_field(name, new), scene.at(entry, "projection.changed", [named]))


def _type(name: str, value: Any) -> str:
    special = {"@timestamp": "date", "timeUnixNano": "date", "source.ip": "ip", "message": "text"}
    return special.get(name, type(value).__name__)


def removed_field(scene: Scene) -> Tamper:
    """A searchable field or an attribute is missing."""
    entry = scene.any_entry()
    name = scene.random.choice(["audit.actor.id", "audit.outcome", "audit.action", "audit.schema.version"])
    return one(entry, entry.with_field(name, None), scene.at(entry, "projection.changed", [name]))


def added_field(scene: Scene) -> Tamper:
    """A searchable field is added that the original does not have."""
    entry = scene.any_entry()
    name, value = scene.random.choice([("audit.failure.reason", "x"), ("audit.policy.path", "/etc/x")])
    return one(entry, entry.with_field(name, value), scene.at(entry, "projection.changed", [name]))


def changed_id(scene: Scene) -> Tamper:
    """The record is stored under another id."""
    entry = scene.any_entry()
    return one(entry, entry.with_id(f"{entry.stream[:-4]}beef"), scene.at(entry, "document.id"))


def changed_sequence(scene: Scene) -> Tamper:
    """The stored sequence is changed to another, which exists or not."""
    entry = scene.any_entry()
    length = len(scene.streams[entry.stream])
    other = scene.random.choice(
        [n for n in (1, length, entry.sequence + 1, length + 50) if n != entry.sequence]
    )
    return one(entry, entry.with_sequence(other), scene.at(entry, "sequence.mismatch"))


def changed_hash(scene: Scene) -> Tamper:
    """The stored hash is changed."""
    entry = scene.any_entry()
    digest = scene.random.choice(["0" * 64, entry.hash[::-1]])
    return one(entry, entry.with_hash(digest), scene.at(entry, "hash.mismatch"))


KINDS = {
    "original: byte flipped": flipped_byte,
    "original: field changed": changed_field,
    "original: field changed, hash computed again": changed_field_hashed,
    "original: field changed, hash, projection and id computed again": changed_field_hashed_projected,
    "original: link changed": changed_link,
    "original: stream id changed": changed_stream_id,
    "searchable field changed": searchable_field,
    "searchable field removed": removed_field,
    "searchable field added": added_field,
    "id changed": changed_id,
    "stored sequence changed": changed_sequence,
    "stored hash changed": changed_hash,
}


# -- the spool alone ---------------------------------------------------------------------------------------


def frame_damaged(scene: Scene) -> Tamper:
    """A byte of a frame is changed without a new CRC."""
    entry = scene.any_entry()
    original = entry.original.replace(b'"audit.actor.id":"', b'"audit.actor.id":"Z', 1)
    new = entry.with_original(original, stated=False, projected=False)
    new.raw["crc"] = False
    code = "original.changed" if scene.vouched(entry) else "hash.mismatch"
    return one(entry, new, scene.at(entry, code))


def attribute_hash(scene: Scene) -> Tamper:
    """The hash among the attributes is changed; the frame's is right."""
    entry = scene.any_entry()
    return one(
        entry,
        entry.with_field("audit.integrity.value", json.dumps("0" * 62)),
        scene.at(entry, "projection.changed", ["audit.integrity.value"]),
    )


SPOOL = {"frame damaged": frame_damaged, "hash attribute changed": attribute_hash}
