"""Tampers with the chain as a whole: insertion, replay, exchange, and computing it again without the key."""

from __future__ import annotations

from typing import Any

from tests.tamper.entry import Entry
from tests.tamper.scene import NOTE, Expected, Scene, Tamper, altered, rechained
from tests.tamper.stores import Edit

from mlaudit.event import new_record_id
from mlaudit.seal.chain import GENESIS


def _hash_before(scene: Scene, entry: Entry) -> str:
    return scene.streams[entry.stream][entry.sequence - 2].hash if entry.sequence > 1 else GENESIS


def _forged(entry: Entry, **fields: Any) -> Entry:
    """A record of the tamperer, everything about it in order but the chain."""
    own = {"audit__record__id": new_record_id(), "message": "nothing happened", **fields}
    return entry.with_original(altered(entry.original, **own), stated=True, projected=True)


def inserted(scene: Scene) -> Tamper:
    """A forged record stands beside the genuine one."""
    entry = scene.any_entry()
    code = "record.inserted" if scene.vouched(entry) else "chain.duplicate"
    forged = _forged(entry)
    return Tamper(
        Edit(added=[(entry, forged)]), [Expected(code, entry.stream, entry.sequence, entry.sequence)]
    )


def inserted_branch(scene: Scene) -> Tamper:
    """Several forged records that follow on each other stand beside the genuine ones."""
    name = scene.any_stream()
    stream, signed = scene.streams[name], scene.signed(name)
    count = scene.random.randint(2, 12)
    first = scene.random.randint(2, signed[-1] - count)
    chosen = stream[first - 1 : first - 1 + count]
    forged = rechained([_forged(entry) for entry in chosen], _hash_before(scene, chosen[0]))
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
        forged.append(_forged(scene.random.choice(models), audit__sequence__number=last.sequence + step))
    forged = rechained(forged, last.hash)
    return Tamper(
        Edit(added=[(last, new) for new in forged]),
        [Expected("record.inserted", name, last.sequence + 1, last.sequence + count)],
    )


def replayed(scene: Scene) -> Tamper:
    """A record is stored once more under another id."""
    entry = scene.any_entry()
    copy = entry.with_id(new_record_id())
    return Tamper(Edit(added=[(entry, copy)]), [scene.at(entry, "record.replayed")])


def swapped_originals(scene: Scene) -> Tamper:
    """Two originals stand in each other's place."""
    one, other = _two(scene)
    return _swap(
        one,
        one.with_original(other.original, stated=False, projected=False),
        other,
        other.with_original(one.original, stated=False, projected=False),
    )


def swapped_sequences(scene: Scene) -> Tamper:
    """Two records have each other's stored sequence."""
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


# -- the chain computed again ------------------------------------------------------------------------------


def _signed_part(scene: Scene, *, first: int = 1) -> tuple[list[Entry], Entry]:
    """A stream, and one of its records in front of its last signature."""
    name = scene.any_stream()
    stream, signed = scene.streams[name], scene.signed(name)
    chosen = stream[scene.random.randint(first, signed[-1] - 1) - 1]
    while NOTE in chosen.fields:
        chosen = stream[scene.random.randint(first, signed[-1] - 1) - 1]
    return stream, chosen


def _again(scene: Scene, stream: list[Entry], chosen: Entry, **how: Any) -> tuple[Edit, list[Entry]]:
    rest = stream[chosen.sequence - 1 :]
    start = rest[0].with_original(
        altered(chosen.original, message="nothing happened", audit__outcome="success"),
        stated=True,
        projected=True,
    )
    again = rechained([start, *rest[1:]], _hash_before(scene, chosen), **how)
    return Edit(changed=dict(zip(rest, again, strict=True))), again


def rehashed(scene: Scene) -> Tamper:
    """A record is changed and the chain behind it computed again; the old checkpoints stay."""
    stream, chosen = _signed_part(scene)
    edit, _ = _again(scene, stream, chosen)
    return Tamper(edit, [scene.mismatch(chosen)])


def resigned(scene: Scene) -> Tamper:
    """As above, and every later checkpoint is signed by the tamperer's own key."""
    stream, chosen = _signed_part(scene)
    edit, _ = _again(scene, stream, chosen, signer=scene.stranger)
    behind = next(n for n in scene.signed(chosen.stream) if n > chosen.sequence)
    return Tamper(edit, [Expected("checkpoint.unknown_key", chosen.stream, behind, behind)])


def resigned_exported(scene: Scene) -> Tamper:
    """As above; an exported checkpoint contradicts as well."""
    tamper = resigned(scene)
    stream = tamper.expected[0].stream
    signed = scene.signed(stream)
    before = max((number - 1 for number in signed if number < tamper.expected[0].sequence), default=0)
    tamper.checkpoints.append(scene.export(stream))
    tamper.expected.append(Expected("checkpoint.mismatch", stream, before + 1, len(scene.streams[stream])))
    return tamper


def forged_signatures(scene: Scene) -> Tamper:
    """As above, but the signatures claim to be by the trusted key."""
    stream, chosen = _signed_part(scene)
    signed = [number for number in scene.signed(chosen.stream) if number > chosen.sequence]

    class Pretender:
        """Signs with the tamperer's key under the trusted one's name."""

        public_key = scene.signer.public_key
        sign = scene.stranger.sign

    edit, _ = _again(scene, stream, chosen, signer=Pretender())
    return Tamper(edit, [Expected("checkpoint.signature", chosen.stream, n, n) for n in signed])


def foreign_notes(scene: Scene) -> Tamper:
    """As above, with a good checkpoint of another stream pasted in the place of each later one."""
    stream, chosen = _signed_part(scene)
    other = scene.any_stream({name for name in scene.streams if name != chosen.stream})
    note = scene.streams[other][scene.signed(other)[-1] - 1].fields[NOTE]
    edit, _ = _again(scene, stream, chosen, note=note)
    signed = [number for number in scene.signed(chosen.stream) if number > chosen.sequence]
    return Tamper(edit, [Expected("checkpoint.mismatch", chosen.stream, n, n) for n in signed])


def old_notes(scene: Scene) -> Tamper:
    """As above, with the last good checkpoint before the change repeated in the place of each later one."""
    while True:
        stream, chosen = _signed_part(scene, first=2)
        signed = scene.signed(chosen.stream)
        if signed[0] < chosen.sequence:
            break
    old = max(number for number in signed if number < chosen.sequence)
    edit, _ = _again(scene, stream, chosen, note=stream[old - 1].fields[NOTE])
    later = [number for number in signed if number > chosen.sequence]
    return Tamper(edit, [Expected("checkpoint.mismatch", chosen.stream, n, n) for n in later])


def broken_signature(scene: Scene) -> Tamper:
    """One checkpoint's signature is changed, and the chain behind it computed again."""
    name = scene.any_stream()
    stream, signed = scene.streams[name], scene.signed(name)
    number = scene.random.choice(signed)
    chosen = stream[number - 1]
    note = str(chosen.fields[NOTE])
    spoiled = note[:-12] + ("A" if note[-12] != "A" else "B") + note[-11:]
    rest = stream[number - 1 :]
    start = chosen.with_original(
        altered(chosen.original, audit__checkpoint__note=spoiled), stated=True, projected=True
    )
    again = rechained([start, *rest[1:]], _hash_before(scene, chosen))
    expected = [Expected("checkpoint.signature", name, number, number)]
    later = [n for n in signed if n > number]
    if later:
        before = max((n - 1 for n in signed if n < number), default=0)
        expected.append(Expected("checkpoint.mismatch", name, before + 1, later[0] - 1))
    return Tamper(Edit(changed=dict(zip(rest, again, strict=True))), expected)


def forged_stream(scene: Scene) -> Tamper:
    """A whole stream is forged, signed by the tamperer's own key."""
    name = scene.any_stream()
    stream = scene.streams[name]
    other = f"{name[:-4]}{scene.random.randrange(16**4):04x}"
    forged = [_forged(entry, audit__sequence__stream_id=other) for entry in stream]
    forged[0] = forged[0].with_original(
        altered(
            forged[0].original,
            audit__stream__previous__id=None,
            audit__stream__previous__hash=None,
            audit__stream__previous__sequence=None,
            audit__stream__parent__id=None,
        ),
        stated=True,
        projected=True,
    )
    forged = rechained(forged, GENESIS, signer=scene.stranger)
    for new in forged:
        new.stream = other
    first = scene.signed(name)[0]
    return Tamper(
        Edit(added=[(stream[-1], new) for new in forged]),
        [Expected("checkpoint.unknown_key", other, first, first)],
    )


KINDS = {
    "record inserted": inserted,
    "branch inserted": inserted_branch,
    "record inserted behind the end": inserted_behind,
    "replayed under another id": replayed,
    "originals exchanged": swapped_originals,
    "stored sequences exchanged": swapped_sequences,
    "chain computed again, old checkpoints kept": rehashed,
    "chain computed again, signed by another key": resigned,
    "chain computed again, signed by another key, checkpoint exported": resigned_exported,
    "chain computed again, signatures forged": forged_signatures,
    "chain computed again, checkpoints of another stream": foreign_notes,
    "chain computed again, old checkpoint repeated": old_notes,
    "signature broken": broken_signature,
    "stream forged": forged_stream,
}


def identical(scene: Scene) -> Tamper | None:
    """The same document once more in the next backing index, as after a rollover: information."""
    old = [entry for entry in scene.store.entries if entry.raw["_index"] in _rolled(scene)]
    if not old:
        return None
    entry = scene.random.choice(old)
    return Tamper(Edit(added=[(entry, entry.copy())]), [scene.at(entry, "replay.identical")])


def _rolled(scene: Scene) -> set[str]:
    """The backing indices that are not written any more."""
    by_stream: dict[str, set[str]] = {}
    for entry in scene.store.entries:
        index = str(entry.raw["_index"])
        by_stream.setdefault(index.rsplit("-", 2)[0], set()).add(index)
    return {index for found in by_stream.values() for index in found if index != max(found)}


DOCUMENTS = {"identical replay": identical}


# -- what no verification can show -------------------------------------------------------------------------


def sender_stamp(scene: Scene) -> Tamper | None:
    """What the collector noted of the sender, or of the arrival, is another."""
    if scene.store.name != "elasticsearch":
        return None
    entry = scene.any_entry()
    name, value = scene.random.choice(
        [
            ("mlaudit.sender.address", "192.0.2.1"),
            ("mlaudit.sender.id", "somebody-else"),
            ("mlaudit.sender.credential", "0" * 16),
            ("event.ingested", "2026-01-01T00:00:00.000000000Z"),
        ]
    )
    return Tamper(
        Edit(changed={entry: entry.with_field(name, value)}), [], limit="only the collector knew it"
    )


def unsigned_end(scene: Scene) -> Tamper | None:
    """The end of an open stream behind its last signature is computed again, or deleted."""
    opened = [
        name
        for name, entries in sorted(scene.streams.items())
        if name not in scene.links and not entries[-1].fields["audit.kind"].endswith(("ended", "abandoned"))
    ]
    if not opened:
        return None
    stream = scene.streams[scene.random.choice(opened)]
    last = scene.signed(stream[0].stream)[-1]
    if last == len(stream):
        return None
    chosen = stream[scene.random.randint(last + 1, len(stream)) - 1]
    limit = "no signature covers it yet and no checkpoint was exported"
    if scene.random.random() < 0.5:
        return Tamper(Edit(changed=dict.fromkeys(stream[chosen.sequence - 1 :])), [], limit=limit)
    edit, _ = _again(scene, stream, chosen)
    return Tamper(edit, [], limit=limit)


def newest_stream(scene: Scene) -> Tamper | None:
    """A stream that no other one names is deleted, and no checkpoint of it was exported."""
    unnamed = [
        name
        for name in sorted(scene.streams)
        if name not in scene.links and name not in scene.parents and name not in scene.adopters
    ]
    stream = scene.streams[scene.random.choice(unnamed)]
    return Tamper(
        Edit(changed=dict.fromkeys(stream)), [], limit="no other stream and no exported checkpoint names it"
    )


LIMITS = {
    "limit: sender and arrival changed": sender_stamp,
    "limit: unsigned end changed": unsigned_end,
    "limit: newest stream deleted": newest_stream,
}
