"""What a tamperer knows about a trail, and what verify must report when records are missing."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
from tests.tamper.entry import Entry
from tests.tamper.stores import Edit, Store

from mlaudit.rfc3339 import from_nanoseconds
from mlaudit.seal.checkpoint import Checkpoint, Signer, sign_note

NOTE = "audit.checkpoint.note"
PREVIOUS_HASH = "audit.sequence.previous_hash"


class Expected(NamedTuple):
    """One expected finding; ``record_id`` and ``fields`` where they are checked too."""

    code: str
    stream: str
    sequence: int = 0
    through: int = 0
    record_id: str = ""
    fields: tuple[str, ...] = ()


@dataclass
class Tamper:
    """One tamper: the change, and what verify must find.

    ``limit`` says why it cannot be found, for tampers that demonstrate a limit.
    """

    edit: Edit
    expected: list[Expected]
    checkpoints: list[Checkpoint] = field(default_factory=list)
    limit: str = ""
    repeat_line: int | None = None


@dataclass
class Scene:
    """A store of a trail with the means to tamper with it.

    Attributes:
        signer: the trail's own key; signs only what is exported, as the product does.
        stranger: the tamperer's key.
    """

    store: Store
    random: random.Random
    signer: Signer
    stranger: Signer

    @cached_property
    def streams(self) -> dict[str, list[Entry]]:
        """The records of each stream, by sequence; a record stored twice counts once."""
        found: dict[str, dict[int, Entry]] = {}
        for entry in self.store.entries:
            found.setdefault(entry.stream, {}).setdefault(entry.sequence, entry)
        return {stream: [by[number] for number in sorted(by)] for stream, by in found.items()}

    @cached_property
    def links(self) -> dict[str, tuple[str, int]]:
        """By stream, its successor and the last record that the successor names."""
        found = {}
        for stream, entries in self.streams.items():
            fields = entries[0].fields
            if previous := fields.get("audit.stream.previous.id"):
                found[previous] = (stream, int(fields["audit.stream.previous.sequence"]))
        return found

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        """By stream, those that name it as parent."""
        return self._naming("audit.stream.parent.id", 0)

    @cached_property
    def adopters(self) -> dict[str, list[str]]:
        """By stream, those that name it as their adopter."""
        return self._naming("audit.stream.adopted_by", -1)

    def _naming(self, name: str, index: int) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for stream, entries in self.streams.items():
            if other := entries[index].fields.get(name):
                found.setdefault(str(other), []).append(stream)
        return found

    def signed(self, stream: str) -> list[int]:
        """Sequences of the records that carry a checkpoint."""
        return [entry.sequence for entry in self.streams[stream] if NOTE.encode() in entry.original]

    def any_stream(self, allowed: Collection[str] | None = None) -> str:
        """One of the streams."""
        return self.random.choice(
            [stream for stream in sorted(self.streams) if allowed is None or stream in allowed]
        )

    def any_entry(self, *, first: int = 1, last: int = -1) -> Entry:
        """A record; ``last`` selects from the end of its stream."""
        entries = self.streams[self.any_stream()]
        return entries[self.random.randint(first - 1, len(entries) + last)]

    def vouched(self, entry: Entry) -> bool:
        """Whether a later record or a later stream names its hash."""
        entries = self.streams[entry.stream]
        link = self.links.get(entry.stream, ("", 0))[1]
        return entry.sequence < len(entries) or entry.sequence == link

    def blamed(self, entry: Entry) -> Expected:
        """The findings when an original was changed and hashed again.

        For the last two records of an open stream, it may be impossible to detect which one was changed.
        """
        entries = self.streams[entry.stream]
        last = entries[-1]
        link = self.links.get(entry.stream, ("", 0))[1]
        if (
            entry.sequence != len(entries) - 1
            or NOTE in last.fields
            or link in (last.sequence, entry.sequence)
        ):
            return self.at(entry, "original.changed")
        return self.at(last, "chain.broken")

    def export(self, stream: str, sequence: int | None = None) -> Checkpoint:
        """An exported checkpoint of a stream: its head by default."""
        entry = self.streams[stream][-1 if sequence is None else sequence - 1]
        return Checkpoint(stream, entry.sequence, entry.hash, from_nanoseconds(1))

    def at(self, entry: Entry, code: str, fields: Iterable[str] = ()) -> Expected:
        """A finding at a record."""
        return Expected(code, entry.stream, entry.sequence, entry.sequence, entry.record_id, tuple(fields))

    def mismatch(self, entry: Entry) -> Expected:
        """The finding that a chain was recomputed from this record on, revealed by the next old checkpoint."""
        signed = self.signed(entry.stream)
        behind = min(number for number in signed if number > entry.sequence)
        before = max((number - 1 for number in signed if number <= entry.sequence), default=0)
        return Expected("checkpoint.mismatch", entry.stream, before + 1, behind - 1)

    def missing(
        self, gone: Mapping[str, Collection[int]], checkpoints: Iterable[Checkpoint] = ()
    ) -> list[Expected] | None:
        """The expected findings when these records are missing; None when not all of it can be detected."""
        known = {point.stream_id: point.sequence for point in checkpoints}
        left = {
            stream: [entry.sequence for entry in entries if entry.sequence not in gone.get(stream, ())]
            for stream, entries in self.streams.items()
        }
        findings: list[Expected] = []
        for stream in gone:
            if not left[stream]:
                if not self.store.complete or not self._is_named(stream, left, known):
                    return None
                findings.append(Expected("stream.missing", stream))
                continue
            some = self._holes(stream, left, known)
            if some is None:
                return None
            findings += some
        return findings

    def _is_named(self, stream: str, left: Mapping[str, list[int]], known: Mapping[str, int]) -> bool:
        by_start = [self.links[stream][0]] if stream in self.links else []
        by_start += self.parents.get(stream, [])
        by_end = self.adopters.get(stream, [])
        return (
            stream in known
            or any(left[other][:1] == [1] for other in by_start)
            or any(left[other][-1:] == [len(self.streams[other])] for other in by_end)
        )

    def _holes(
        self, stream: str, left: Mapping[str, list[int]], known: Mapping[str, int]
    ) -> list[Expected] | None:
        rest, length = left[stream], len(self.streams[stream])
        findings = []
        if rest[0] > 1:
            findings.append(Expected("stream.start_missing", stream, 1, rest[0] - 1))
        for one, other in pairwise(rest):
            if other > one + 1:
                findings.append(Expected("chain.gap", stream, one + 1, other - 1))
        if rest[-1] == length:
            return findings
        follower, link = self.links.get(stream, ("", 0))
        if follower and left[follower][:1] != [1]:
            follower = ""
        if known.get(stream, 0) > rest[-1]:
            findings.append(Expected("stream.tail_missing", stream, rest[-1] + 1, known[stream]))
        elif follower and link > rest[-1]:
            findings.append(Expected("stream.tail_missing", stream, rest[-1] + 1, link))
        elif follower:
            findings.append(Expected("stream.not_ended", stream, rest[-1], rest[-1]))
        else:
            return None
        return findings


# -- forging -----------------------------------------------------------------------------------------------


def altered(original: bytes, **fields: Any) -> bytes:
    """The original with changed fields, in the same encoding; ``__`` stands for a dot, None removes."""
    values = orjson.loads(original)
    for name, value in fields.items():
        if value is None:
            values.pop(name.replace("__", "."), None)
        else:
            values[name.replace("__", ".")] = value
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)


def rechained(
    entries: list[Entry], previous: str, signer: Signer | None = None, note: str | None = None
) -> list[Entry]:
    """Entries with the chain recomputed from ``previous``, including what the stores keep.

    Args:
        entries: in order, the first one already altered.
        previous: hash of the record before the first one.
        signer: signs checkpoints again, with any key; None leaves them.
        note: replaces every checkpoint.
    """
    result = []
    for entry in entries:
        original = re.sub(
            rb'"audit\.sequence\.previous_hash":"[^"]*"',
            b'"audit.sequence.previous_hash":"%b"' % previous.encode(),
            entry.original,
        )
        fields = orjson.loads(original)
        if NOTE in fields and (signer is not None or note is not None):
            sequence = fields["audit.sequence.number"] - 1
            point = Checkpoint(fields["audit.sequence.stream_id"], sequence, previous, fields["@timestamp"])
            text = note if signer is None else sign_note(point, signer)
            original = altered(original, audit__checkpoint__note=text, audit__checkpoint__hash=previous)
        changed = entry.with_original(original, stated=True, projected=True)
        previous = changed.hash
        result.append(changed)
    return result
