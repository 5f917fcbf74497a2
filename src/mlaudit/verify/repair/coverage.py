"""Compares what signed checkpoints promise with what is stored: exactly which records are missing, and why if known.

Coverage checks that a record is present; verification checks that it is genuine.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from mlaudit.errors import SourceError
from mlaudit.seal.checkpoint import SignedNote
from mlaudit.verify.repair.originals import (
    ARCHIVE,
    QUARANTINE,
    RETAINED,
    SPOOL,
    Original,
    read_archive,
    read_spool,
)
from mlaudit.verify.repair.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from mlaudit.seal.checkpoint import Checkpoint
    from mlaudit.verify.export import Newest
    from mlaudit.verify.sources.cluster_source import ElasticsearchSource

UNKNOWN: Final = "unknown"
REFUSED: Final = "refused"
REASONS: Final[dict[str, str]] = {
    SPOOL: "waits in the spool, not delivered yet: is the collector up? 'mlaudit spool drain' for dead processes",
    QUARANTINE: "quarantined in the spool: the collector rejected it",
    REFUSED: "Elasticsearch cannot store it: a key inside an object field holds a NUL or is longer than 32,766 bytes",
    RETAINED: "the collector took it, Elasticsearch does not have it: rejected there, or deleted; 'mlaudit resend'",
    ARCHIVE: "it is archived, Elasticsearch does not have it: rejected there, or deleted; 'mlaudit resend --archive'",
    UNKNOWN: "no trace of it on this host; check the host that wrote it, or name an archive with --archive",
}
_ORDER: Final = (SPOOL, QUARANTINE, REFUSED, RETAINED, ARCHIVE)
_LOOK_AGAIN_SECONDS: Final = 0.5
_KEY_BYTES: Final = 32_766


@dataclass(slots=True)
class StreamCoverage:
    """One stream.

    Attributes:
        signed: the record up to which a good signature promises everything; ``hash`` is what it says of that one.
        time: when it was signed.
        stored: the sequences in Elasticsearch, and by class how many.
        missing: the promised sequences that are not stored, by reason (a key of ``REASONS``).
        missing_classes: how many of those by class, as far as known.
        contradicted: the stored record ``signed`` has another hash.
    """

    stream_id: str
    signed: int = 0
    hash: str = ""
    time: str = ""
    stored: Ranges = field(default_factory=Ranges)
    classes: Counter[str] = field(default_factory=Counter)
    missing: dict[str, Ranges] = field(default_factory=dict)
    missing_classes: Counter[str] = field(default_factory=Counter)
    contradicted: bool = False

    @property
    def absent(self) -> Ranges:
        """Every promised sequence that is not stored."""
        return self.stored.gaps(1, self.signed) if self.signed else Ranges()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ranges = [
            {"first": first, "last": last, "reason": reason}
            for reason, found in self.missing.items()
            for first, last in found
        ]
        return {
            "stream_id": self.stream_id,
            "signed": self.signed,
            "signed_at": self.time,
            "stored": self.stored.count,
            "beyond_signed": self.stored.count - (self.signed - self.absent.count),
            "missing": sorted(ranges, key=lambda item: item["first"]),
            "missing_count": self.absent.count,
            "classes": {
                name: {"stored": self.classes[name], "missing": self.missing_classes[name]}
                for name in sorted(self.classes | self.missing_classes)
            },
            "contradicted": self.contradicted,
        }


@dataclass(slots=True)
class Local:
    """Further places of records: a spool folder, and archive files."""

    spool: Path | None = None
    archives: list[Path] = field(default_factory=list)

    def originals(self, wanted: Callable[[str, int], bool]) -> Iterator[Original]:
        """The originals of the wanted records.

        Raises:
            SourceError: an archive cannot be read.
        """
        if self.spool is not None:
            yield from read_spool(self.spool, wanted)
        yield from read_archive(self.archives, wanted)


def promised(
    newest: Newest, known: Iterable[Checkpoint], stream: str = "", since: str = ""
) -> dict[str, StreamCoverage]:
    """The streams with a good signature, with the furthest one.

    Args:
        newest: from the store and this host.
        known: from outside the source, signatures checked.
        stream: only this one.
        since: leave out streams that were signed last before (RFC 3339).
    """
    streams: dict[str, StreamCoverage] = {}
    stored = (SignedNote.parse(note).checkpoint for _, _, note in newest.notes.values())
    for checkpoint in (*known, *stored):
        if stream and checkpoint.stream_id != stream:
            continue
        found = streams.setdefault(checkpoint.stream_id, StreamCoverage(checkpoint.stream_id))
        if checkpoint.sequence > found.signed:
            found.signed, found.hash, found.time = checkpoint.sequence, checkpoint.hash, checkpoint.time
    return {name: found for name, found in streams.items() if found.time >= since}


def cover(
    streams: Mapping[str, StreamCoverage], source: ElasticsearchSource, local: Local, settle: float = 10.0
) -> None:
    """Fills in what is stored, what is missing, and why.

    Memory grows with the number of streams and of separate missing ranges, not with the number of records.

    Args:
        streams: see ``promised``.
        source: the cluster.
        local: where to look for what is missing.
        settle: seconds to wait for records that are still on their way.

    Raises:
        SourceError: the cluster or an archive could not be checked.
    """
    deadline = time.monotonic() + settle
    open_ones = set(streams)
    while True:
        _look(streams, source, open_ones)
        open_ones = {name for name in open_ones if streams[name].absent}
        if not open_ones or time.monotonic() >= deadline:
            break
        time.sleep(min(_LOOK_AGAIN_SECONDS, settle))
    if open_ones:
        _explain({name: streams[name] for name in open_ones}, local)


def _look(streams: Mapping[str, StreamCoverage], source: ElasticsearchSource, names: set[str]) -> None:
    for name in names:
        streams[name].stored = Ranges()
        streams[name].classes = Counter()
        streams[name].contradicted = False
    for place in source.places(names):
        found = streams.get(place.stream_id)
        if found is None or place.stream_id not in names or not place.sequence:
            continue
        if place.sequence not in found.stored:
            found.classes[place.record_class] += 1
        found.stored.add(place.sequence)
        if place.sequence == found.signed and place.hash != found.hash:
            found.contradicted = True


def _explain(streams: Mapping[str, StreamCoverage], local: Local) -> None:
    absent = {name: found.absent for name, found in streams.items()}
    seen: dict[str, dict[str, Ranges]] = {name: {reason: Ranges() for reason in _ORDER} for name in streams}
    classed: dict[str, Ranges] = {name: Ranges() for name in streams}

    def wanted(stream_id: str, sequence: int) -> bool:
        return stream_id in absent and sequence in absent[stream_id]

    for original in local.originals(wanted):
        name, sequence = original.stream_id, original.sequence
        delivered = original.place in (RETAINED, ARCHIVE)
        seen[name][REFUSED if delivered and _is_refused(original) else original.place].add(sequence)
        if sequence not in classed[name]:
            classed[name].add(sequence)
            streams[name].missing_classes[original.record_class or UNKNOWN] += 1
    for name, found in streams.items():
        left = absent[name]
        found.missing = {}
        for reason in _ORDER:
            here = Ranges()
            rest = Ranges()
            for first, last in left:
                others = seen[name][reason].gaps(first, last)
                for begin, end in others:
                    rest.add(begin, end)
                for begin, end in others.gaps(first, last):
                    here.add(begin, end)
            if here:
                found.missing[reason] = here
            left = rest
        if left:
            found.missing[UNKNOWN] = left
            found.missing_classes[UNKNOWN] += absent[name].count - classed[name].count


def _is_refused(original: Original) -> bool:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    if original.fault:
        return False
    fields = orjson.loads(LogRecord.FromString(original.payload).body.string_value)
    return any(_bad_key(value) for value in fields.values() if isinstance(value, dict))


def _bad_key(value: Any) -> bool:
    if isinstance(value, list):
        return any(_bad_key(item) for item in value)
    if not isinstance(value, dict):
        return False
    return any(
        "\0" in key or len(key.encode("utf-8", "surrogatepass")) > _KEY_BYTES or _bad_key(item)
        for key, item in value.items()
    )


def check_promises(streams: Mapping[str, StreamCoverage], stream: str) -> None:
    """Nothing promised is nothing covered.

    Raises:
        SourceError: there is no good signature about anything.
    """
    if not streams:
        about = f"stream {stream}" if stream else "any stream"
        raise SourceError(
            f"expected signed checkpoints about {about}, found none by a trusted key; that proves nothing"
        )
