from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.sealed import STREAM_ID, make_stream, payload, write_archive, write_spool

from mlaudit.deliver.spool import layout
from mlaudit.errors import SourceError
from mlaudit.seal.checkpoint import Checkpoint
from mlaudit.verify.export import Newest
from mlaudit.verify.repair.coverage import Local, StreamCoverage, check_promises, cover, promised
from mlaudit.verify.sources.cluster_source import Place

OTHER = "019ab8a0-0000-7000-8000-00000000000a"
VALID = make_stream()


@dataclass
class Cluster:
    """Returns places, and more of them at a later read."""

    stored: list[Place]
    later: list[Place] = field(default_factory=list)
    looks: int = 0

    def places(self, streams: Iterable[str]) -> Iterator[Place]:
        """The content at this time."""
        self.looks += 1
        names = set(streams)
        there = self.stored if self.looks == 1 else [*self.stored, *self.later]
        return (place for place in there if place.stream_id in names)


def place(sequence: int, digest: str = "", stream_id: str = STREAM_ID) -> Place:
    """One document."""
    return Place(stream_id, sequence, digest or f"{sequence:064x}", "", "prediction")


def streams_of(last: int, digest: str = "") -> dict[str, StreamCoverage]:
    """One stream, signed up to ``last``."""
    known = Checkpoint(STREAM_ID, last, digest or f"{last:064x}", "2026-11-25T03:30:00Z")
    return promised(Newest(), [known])


def covered(
    streams: dict[str, StreamCoverage], cluster: Any, local: Local | None = None, settle: float = 0
) -> Any:
    """The coverage of the one stream, as JSON."""
    cover(streams, cluster, local or Local(), settle)
    return streams[STREAM_ID].to_dict()


def test_furthest_promise_counts() -> None:
    """Of several signatures the furthest counts; other and older streams are excluded on request."""
    known = [
        Checkpoint(STREAM_ID, 9, "a" * 64, "2026-11-25T03:30:00Z"),
        Checkpoint(STREAM_ID, 12, "b" * 64, "2026-11-25T03:31:00Z"),
        Checkpoint(OTHER, 3, "c" * 64, "2026-11-24T00:00:00Z"),
    ]

    assert {name: found.signed for name, found in promised(Newest(), known).items()} == {
        STREAM_ID: 12,
        OTHER: 3,
    }
    assert set(promised(Newest(), known, stream=OTHER)) == {OTHER}
    assert set(promised(Newest(), known, since="2026-11-25")) == {STREAM_ID}
    with pytest.raises(SourceError, match="proves nothing"):
        check_promises({}, "")


def test_missing_ranges_are_exact() -> None:
    """Every promised sequence without a document is missing, and documents beyond the promise are reported."""
    cluster = Cluster([place(number) for number in (2, 3, 4, 8, 10, 11, 12)])

    report = covered(streams_of(10), cluster)

    assert [(item["first"], item["last"], item["reason"]) for item in report["missing"]] == [
        (1, 1, "unknown"),
        (5, 7, "unknown"),
        (9, 9, "unknown"),
    ]
    assert (report["missing_count"], report["stored"], report["beyond_signed"]) == (5, 7, 2)
    assert report["classes"]["unknown"] == {"stored": 0, "missing": 5}


def test_late_documents_are_waited_for() -> None:
    """Documents that arrive during the check are not missing."""
    cluster = Cluster([place(1)], later=[place(2), place(3)])

    assert covered(streams_of(3), cluster, settle=5)["missing"] == []
    assert cluster.looks == 2


def test_other_hash_at_the_signed_record_is_told() -> None:
    """A document with another hash in the signed record's place does not count as stored."""
    cluster = Cluster([place(1), place(2, "f" * 64)])

    assert covered(streams_of(2), cluster)["contradicted"]


def test_reasons_come_from_this_host(tmp_path: Path) -> None:
    """Each missing record is searched in spool, quarantine, retained window and archive, in this order."""
    spool = tmp_path / "spool"
    other_part = tmp_path / "later"
    write_spool(layout.retained_folder(spool), VALID[:6])
    write_spool(other_part, VALID[10:14])
    (other_part / STREAM_ID).rename(spool / STREAM_ID)
    quarantine = layout.quarantine_folder(spool / STREAM_ID)
    quarantine.mkdir()
    (quarantine / f"{8:020d}.otlp").write_bytes(payload(VALID[7]))
    archive = write_archive(tmp_path / "audit.jsonl", VALID[:10])

    report = covered(streams_of(20), Cluster([place(1)]), Local(spool, [archive]))

    assert [(item["first"], item["last"], item["reason"]) for item in report["missing"]] == [
        (2, 6, "retained"),
        (7, 7, "archive"),
        (8, 8, "quarantine"),
        (9, 10, "archive"),
        (11, 14, "spool"),
        (15, 20, "unknown"),
    ]
    assert report["classes"]["prediction"]["missing"] == 13
    assert report["classes"]["unknown"]["missing"] == 6


def test_memory_does_not_grow_with_records() -> None:
    """Two hundred thousand places of a stream without gaps cost no more than a few ranges."""

    class Endless:
        def places(self, streams: Iterable[str]) -> Iterator[Place]:
            return (Place(STREAM_ID, number, "", "", "prediction") for number in range(1, 200_001))

    tracemalloc.start()
    try:
        report = covered(streams_of(300_000), Endless())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report["missing"] == [{"first": 200_001, "last": 300_000, "reason": "unknown"}]
    assert peak < 1_000_000
