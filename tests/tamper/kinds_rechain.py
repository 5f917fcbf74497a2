"""Recomputing the chain without the key, and tampers that cannot be detected."""

from __future__ import annotations

from typing import Any

from tests.tamper.entry import Entry
from tests.tamper.kinds_chain import forged_record, hash_before
from tests.tamper.scene import NOTE, Expected, Scene, Tamper, altered, rechained
from tests.tamper.stores import Edit

from mlaudit.seal.chain import GENESIS


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
    again = rechained([start, *rest[1:]], hash_before(scene, chosen), **how)
    return Edit(changed=dict(zip(rest, again, strict=True))), again


def rehashed(scene: Scene) -> Tamper:
    """A record is changed and the chain after it recomputed; the old checkpoints stay."""
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
    """As above, but the signatures claim the name of the trusted key."""
    stream, chosen = _signed_part(scene)
    signed = [number for number in scene.signed(chosen.stream) if number > chosen.sequence]

    class Pretender:
        """Signs with the tamperer's key under the trusted one's name."""

        public_key = scene.signer.public_key
        sign = scene.stranger.sign

    edit, _ = _again(scene, stream, chosen, signer=Pretender())
    return Tamper(edit, [Expected("checkpoint.signature", chosen.stream, n, n) for n in signed])


def foreign_notes(scene: Scene) -> Tamper:
    """As above, with each later checkpoint replaced by a valid one of another stream."""
    stream, chosen = _signed_part(scene)
    other = scene.any_stream({name for name in scene.streams if name != chosen.stream})
    note = scene.streams[other][scene.signed(other)[-1] - 1].fields[NOTE]
    edit, _ = _again(scene, stream, chosen, note=note)
    signed = [number for number in scene.signed(chosen.stream) if number > chosen.sequence]
    return Tamper(edit, [Expected("checkpoint.mismatch", chosen.stream, n, n) for n in signed])


def old_notes(scene: Scene) -> Tamper:
    """As above, with each later checkpoint replaced by the last valid one before the change."""
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
    """One checkpoint's signature is changed, and the chain after it recomputed."""
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
    again = rechained([start, *rest[1:]], hash_before(scene, chosen))
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
    forged = [forged_record(entry, audit__sequence__stream_id=other) for entry in stream]
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
    "chain computed again, old checkpoints kept": rehashed,
    "chain computed again, signed by another key": resigned,
    "chain computed again, signed by another key, checkpoint exported": resigned_exported,
    "chain computed again, signatures forged": forged_signatures,
    "chain computed again, checkpoints of another stream": foreign_notes,
    "chain computed again, old checkpoint repeated": old_notes,
    "signature broken": broken_signature,
    "stream forged": forged_stream,
}


# -- what no verification can show -------------------------------------------------------------------------


def sender_stamp(scene: Scene) -> Tamper | None:
    """The collector's stamp of the sender or of the arrival is changed."""
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
    """The end of an open stream after its last signature is recomputed or deleted."""
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
    """A stream that no other stream names is deleted, and no checkpoint of it was exported."""
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
