"""Tampers with the chain as a whole: insertion, replay, exchange, and recomputation without the key."""

from __future__ import annotations

from typing import Any

from tests.tamper.entry import Entry
from tests.tamper.scene import NOTE, Expected, Scene, Tamper, altered, rechained
from tests.tamper.stores import Edit

from mlaudit.event import new_record_id
from mlaudit.seal.chain import GENESIS


def hash_before(scene: Scene, entry: Entry) -> str:
    """The hash of the record before this one."""
    return scene.streams[entry.stream][entry.sequence - 2].hash if entry.sequence > 1 else GENESIS


def forged_record(entry: Entry, **fields: Any) -> Entry:
    """A forged record that is valid except for its place in the chain."""
    own = {"audit__record__id": new_record_id(), "message": "nothing happened", **fields}
    return entry.with_original(altered(entry.original, **own), stated=True, projected=True)


def inserted(scene: Scene) -> Tamper:
    """A forged record is stored next to the genuine one."""
    entry = scene.any_entry()
    code = "record.inserted" if scene.vouched(entry) else "chain.duplicate"
    forged = forged_record(entry)
    return Tamper(
        Edit(added=[(entry, forged)]), [Expected(code, entry.stream, entry.sequence, entry.sequence)]
    )


def inserted_branch(scene: Scene) -> Tamper:
    """Several forged records, linked to each other, are stored next to the genuine ones."""
    name = scene.any_stream()
    stream, signed = scene.streams[name], scene.signed(name)
    count = scene.random.randint(2, 12)
    first = scene.random.randint(2, signed[-1] - count)
    chosen = stream[first - 1 : first - 1 + count]
    forged = rechained([forged_record(entry) for entry in chosen], hash_before(scene, chosen[0]))
    return Tamper(
        Edit(added=list(zip(chosen, forged, strict=True))),
        [Expected("record.inserted", name, first, first + count - 1)],
    )


def inserted_behind(scene: Scene) -> Tamper:
    """Forged records are appended to a stream that has ended."""
    ended = [
        name
        for name, entries in scene.streams.items()
        if entries[-1].fields["audit.kind"] in ("audit.stream.ended", "audit.stream.abandoned")
    ]
    name = scene.any_stream(ended)
    stream = scene.streams[name]
    last, count = stream[-1], scene.random.randint(1, 4)
    models = [entry for entry in stream[1:] if NOTE not in entry.fields]
    forged: list[Entry] = []
    for step in range(1, count + 1):
        forged.append(
            forged_record(scene.random.choice(models), audit__sequence__number=last.sequence + step)
        )
    forged = rechained(forged, last.hash)
    return Tamper(
        Edit(added=[(last, new) for new in forged]),
        [Expected("record.inserted", name, last.sequence + 1, last.sequence + count)],
    )


def replayed(scene: Scene) -> Tamper:
    """A record is stored again under another id."""
    entry = scene.any_entry()
    copy = entry.with_id(new_record_id())
    return Tamper(Edit(added=[(entry, copy)]), [scene.at(entry, "record.replayed")])


def swapped_originals(scene: Scene) -> Tamper:
    """Two originals are swapped."""
    one, other = _two(scene)
    return _swap(
        one,
        one.with_original(other.original, stated=False, projected=False),
        other,
        other.with_original(one.original, stated=False, projected=False),
    )


def swapped_sequences(scene: Scene) -> Tamper:
    """The stored sequences of two records are swapped."""
    one, other = _two(scene)
    return _swap(one, one.with_sequence(other.sequence), other, other.with_sequence(one.sequence))


def _two(scene: Scene) -> tuple[Entry, Entry]:
    stream = scene.streams[scene.any_stream()]
    one, other = sorted(scene.random.sample(range(len(stream)), 2))
    return stream[one], stream[other]


def _swap(one: Entry, new_one: Entry, other: Entry, new_other: Entry) -> Tamper:
    return Tamper(
        Edit(changed={one: new_one, other: new_other}),
        [Expected("order.swapped", one.stream, one.sequence, other.sequence)],
    )


KINDS = {
    "record inserted": inserted,
    "branch inserted": inserted_branch,
    "record inserted behind the end": inserted_behind,
    "replayed under another id": replayed,
    "originals exchanged": swapped_originals,
    "stored sequences exchanged": swapped_sequences,
}


def identical(scene: Scene) -> Tamper | None:
    """The same document again in the next backing index, as after a rollover: information."""
    old = [entry for entry in scene.store.entries if entry.raw["_index"] in _rolled(scene)]
    if not old:
        return None
    entry = scene.random.choice(old)
    return Tamper(Edit(added=[(entry, entry.copy())]), [scene.at(entry, "replay.identical")])


def _rolled(scene: Scene) -> set[str]:
    """The backing indices that are no longer written."""
    by_stream: dict[str, set[str]] = {}
    for entry in scene.store.entries:
        index = str(entry.raw["_index"])
        by_stream.setdefault(index.rsplit("-", 2)[0], set()).add(index)
    return {index for found in by_stream.values() for index in found if index != max(found)}


DOCUMENTS = {"identical replay": identical}
