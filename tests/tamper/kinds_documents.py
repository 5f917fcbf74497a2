"""Tampers that only apply to documents in Elasticsearch."""

from __future__ import annotations

from tests.tamper.entry import NUMBER, STREAM
from tests.tamper.kinds_record import one
from tests.tamper.scene import Expected, Scene, Tamper
from tests.tamper.stores import Edit


def searchable_stream(scene: Scene) -> Tamper:
    """A document is searchable under another stream."""
    entry = scene.any_entry()
    other = scene.any_stream({stream for stream in scene.streams if stream != entry.stream})
    return one(entry, entry.with_field(STREAM, other), scene.at(entry, "projection.changed", [STREAM]))


def searchable_place(scene: Scene) -> Tamper:
    """A document is searchable, and counted, at another place."""
    entry = scene.any_entry()
    other = entry.sequence + scene.random.choice([1, 7, 5000])
    new = entry.with_field(NUMBER, float(other)).with_sequence(other)
    return one(
        entry,
        new,
        scene.at(entry, "projection.changed", [NUMBER]),
        scene.at(entry, "sequence.mismatch"),
    )


def nested_field(scene: Scene) -> Tamper:
    """A second value is made searchable by a nested object next to the dotted name."""
    entry = scene.any_entry()
    return one(
        entry, entry.with_field("user", {"name": "eve"}), scene.at(entry, "projection.changed", ["user"])
    )


def class_moved(scene: Scene) -> Tamper:
    """A document is in the data stream of another class, with its data_stream fields changed or not."""
    entry = scene.any_entry()
    own = entry.fields["event.dataset"]
    other = scene.random.choice(
        [c for c in ("access", "change", "system", "training") if f"mlaudit.{c}" != own]
    )
    new = entry.copy()
    new.raw["_index"] = f"logs-mlaudit.{other}-default"
    if scene.random.random() < 0.5:
        new = new.with_field("data_stream.dataset", f"mlaudit.{other}")
    return one(entry, new, scene.at(entry, "document.place"))


def namespace_moved(scene: Scene) -> Tamper:
    """Documents are in another namespace than their neighbours."""
    stream = scene.streams[scene.any_stream()]
    count = scene.random.choice([1, 1, 5])
    first = scene.random.randint(2, len(stream) - count)
    chosen = stream[first - 1 : first - 1 + count]
    changed = {}
    for entry in chosen:
        new = entry.with_field("data_stream.namespace", "elsewhere")
        new.raw["_index"] = f"logs-{entry.fields['event.dataset']}-elsewhere"
        changed[entry] = new
    last = chosen[-1].sequence
    return Tamper(Edit(changed=changed), [Expected("document.place", chosen[0].stream, first, last)])


def data_stream_fields(scene: Scene) -> Tamper:
    """A document names a data stream other than its own."""
    entry = scene.any_entry()
    name, value = scene.random.choice(
        [
            ("data_stream.dataset", "mlaudit.nothing"),
            ("data_stream.namespace", "other"),
            ("data_stream.type", "x"),
        ]
    )
    return one(entry, entry.with_field(name, value), scene.at(entry, "projection.changed", [name]))


def no_hash(scene: Scene) -> Tamper:
    """The stored hash or the stored sequence is missing."""
    entry = scene.any_entry()
    if scene.random.random() < 0.5:
        return one(entry, entry.with_field("event.hash", None), scene.at(entry, "hash.mismatch"))
    return one(entry, entry.with_field("event.sequence", None), scene.at(entry, "sequence.mismatch"))


KINDS = {
    "searchable stream changed": searchable_stream,
    "searchable place and stored sequence changed": searchable_place,
    "nested object added": nested_field,
    "moved to another class": class_moved,
    "moved to another namespace": namespace_moved,
    "data_stream fields changed": data_stream_fields,
    "stored hash or sequence removed": no_hash,
}
