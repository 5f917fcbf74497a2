from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sealed import (
    BEGIN,
    KEYS,
    NEXT_ID,
    NOW,
    SECOND,
    STREAM_ID,
    Document,
    altered,
    copy_of,
    document,
    make_stream,
    named,
    records,
    rehash,
    write_archive,
    write_spool,
)

from mlaudit.errors import KeyFileError, SourceError
from mlaudit.rfc3339 import from_nanoseconds
from mlaudit.seal.checkpoint import Checkpoint
from mlaudit.verify.proof.stored import StoredRecord
from mlaudit.verify.report import Report
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.sources.source import Remarks, Selection
from mlaudit.verify.verification import verify_source

FIRST = make_stream(end="ended")
KILLED = make_stream(18, end="open")


def follower(previous: list[Document], sequence: int | None = None, **values: Any) -> list[Document]:
    """A stream that continues another after a restart."""
    last = previous[-1] if sequence is None else previous[sequence - 1]
    link = {
        "audit.stream.previous.id": STREAM_ID,
        "audit.stream.previous.sequence": last.sequence,
        "audit.stream.previous.hash": last.hash,
    }
    return make_stream(stream_id=NEXT_ID, begin=BEGIN + 60 * SECOND, first={**link, **values})


def verify(tmp_path: Path, *streams: list[Document], **options: Any) -> Report:
    """Verifies an archive of streams."""
    path = write_archive(tmp_path / "audit.jsonl", [stored for stream in streams for stored in stream])
    return verify_source(open_source(path), KEYS, now=NOW, **options)


def places(report: Report) -> list[tuple[str, str, int, int]]:
    """Code, stream and place of each finding."""
    return [(found.code, found.stream_id, found.sequence, found.through) for found in report.findings]


def test_restart_is_proven(tmp_path: Path) -> None:
    """A stream that ended and its successor are proven together."""
    assert verify(tmp_path, FIRST, follower(FIRST)).findings == []


def test_link_to_an_earlier_record_is_proven(tmp_path: Path) -> None:
    """The successor of a killed process links to its last noted record; the adoption comes later."""
    abandoned = make_stream(end="abandoned")

    assert verify(tmp_path, abandoned, follower(abandoned, 12)).findings == []


def test_deleted_tail_is_named_by_the_next_stream(tmp_path: Path) -> None:
    """The next stream shows how far this one had come."""
    report = verify(tmp_path, FIRST[:15], follower(FIRST))

    assert places(report) == [("stream.tail_missing", STREAM_ID, 16, 20)]


def test_deleted_stream_is_named_by_the_next(tmp_path: Path) -> None:
    """A deleted stream is still named by its successor."""
    assert places(verify(tmp_path, follower(FIRST))) == [("stream.missing", STREAM_ID, 0, 0)]


def test_deleted_parent_is_named_by_the_child(tmp_path: Path) -> None:
    """A forked process names the stream of its parent."""
    child = make_stream(stream_id=NEXT_ID, first={"audit.stream.parent.id": STREAM_ID})

    assert places(verify(tmp_path, child)) == [("stream.missing", STREAM_ID, 0, 0)]
    assert verify(tmp_path, FIRST, child).findings == []


def test_absent_adopter_is_named_by_the_stream_it_closed(tmp_path: Path) -> None:
    """A missing adopter of an abandoned stream is a finding, except right after the adoption."""
    abandoned = make_stream(end="abandoned")
    abandoned[-1] = document(altered(abandoned[-1].original, "audit.stream.adopted_by", NEXT_ID))

    assert places(verify(tmp_path, abandoned)) == [("stream.missing", NEXT_ID, 0, 0)]
    path = write_archive(tmp_path / "fresh.jsonl", abandoned)
    moment = NOW.replace(hour=3, minute=30, second=40)
    assert verify_source(open_source(path), KEYS, now=moment).ok


def test_link_far_from_the_end_is_compared(tmp_path: Path) -> None:
    """The record that a later stream names is compared however many follow it."""
    long = make_stream(200, every=500)
    after = follower(long, 3)
    changed = copy_of(long)
    rest = document(altered(changed[2].original, "message", "nothing happened"))
    changed[2] = rest
    rehash(changed, 3)

    codes = [found.code for found in verify(tmp_path, changed, after).findings]

    assert codes == ["checkpoint.mismatch"]
    assert "original.changed" in {found.code for found in verify(tmp_path, changed[:199], after).findings}


def test_forged_stream_cannot_accuse_a_signed_record(tmp_path: Path) -> None:
    """A link from an unsigned stream that contradicts a signed record is itself the finding."""
    forged = follower(FIRST, 12, **{"audit.stream.previous.hash": "f" * 64})[:4]

    assert places(verify(tmp_path, FIRST, forged)) == [("chain.broken", NEXT_ID, 1, 1)]


def test_deleted_stream_is_named_by_a_checkpoint_from_elsewhere(tmp_path: Path) -> None:
    """Deletion of even the newest stream is found once a checkpoint of it has been exported."""
    known = [Checkpoint(NEXT_ID, 5, "0" * 64, "2025-11-25T03:31:00Z")]

    assert places(verify(tmp_path, FIRST, checkpoints=known)) == [("stream.missing", NEXT_ID, 0, 0)]


def test_stream_without_an_end_is_named(tmp_path: Path) -> None:
    """A stream with a successor must have ended or been abandoned."""
    report = verify(tmp_path, KILLED, follower(KILLED))

    assert places(report) == [("stream.not_ended", STREAM_ID, 18, 18)]


def test_successor_that_just_starts_may_still_be_closing_it(tmp_path: Path) -> None:
    """Shortly after the successor's start a missing end is for information only."""
    moment = NOW.replace(hour=3, minute=31, second=30)
    path = write_archive(tmp_path / "audit.jsonl", [*KILLED, *follower(KILLED)])

    report = verify_source(open_source(path), KEYS, now=moment)

    assert report.ok
    assert "has no end yet" in report.not_checked[0]


def test_workers_that_run_side_by_side_are_no_restart(tmp_path: Path) -> None:
    """A stream that goes on after its supposed successor began belongs to another worker."""
    link = {"audit.stream.previous.id": STREAM_ID, "audit.stream.previous.sequence": 1}
    link["audit.stream.previous.hash"] = KILLED[0].hash
    worker = make_stream(stream_id=NEXT_ID, begin=BEGIN + 5 * SECOND, first=link)

    assert verify(tmp_path, KILLED, worker).findings == []


def test_last_record_is_vouched_for_by_the_next_stream(tmp_path: Path) -> None:
    """The link of a restart shows whether the last original or its stored hash was changed."""
    after = follower(FIRST)
    changed = copy_of(FIRST)
    changed[-1].original = altered(changed[-1].original, "message", "nothing happened")
    assert places(verify(tmp_path, changed, after)) == [("original.changed", STREAM_ID, 20, 20)]

    changed[-1] = document(changed[-1].original)
    assert places(verify(tmp_path, changed, after)) == [("original.changed", STREAM_ID, 20, 20)]


def test_window_says_what_was_not_looked_at(tmp_path: Path) -> None:
    """A time window cuts streams without findings, includes records between its own, and is stated in the report."""
    since = from_nanoseconds(BEGIN + 5 * SECOND)
    until = from_nanoseconds(BEGIN + 10 * SECOND)

    report = verify(tmp_path, FIRST, follower(FIRST), since=since, until=until)

    assert report.ok
    assert [(stream.first, stream.last) for stream in report.streams] == [(5, 9)]
    assert report.window == {"since": since, "until": until}
    assert "only from their first to their last record in the window" in report.not_checked[0]


def test_tamper_inside_a_window_is_named(tmp_path: Path) -> None:
    """A tamper inside the window is still found."""
    documents = copy_of(FIRST)
    del documents[6]

    report = verify(tmp_path, documents, since=from_nanoseconds(BEGIN + 5 * SECOND))

    assert named(report.findings) == [("chain.gap", 7, 7)]


def test_window_without_a_record_proves_nothing(tmp_path: Path) -> None:
    """An empty window is not reported as proven."""
    with pytest.raises(SourceError, match="proves nothing"):
        verify(tmp_path, FIRST, since=from_nanoseconds(BEGIN + 1000 * SECOND))


def test_one_stream_alone(tmp_path: Path) -> None:
    """A selected stream is verified without the others, and its links to them are reported."""
    report = verify(tmp_path, follower(FIRST), stream=NEXT_ID)

    assert report.ok
    assert report.not_checked == [f"stream {STREAM_ID}: stream {NEXT_ID} continues it"]
    with pytest.raises(SourceError, match=f"expected stream {STREAM_ID}"):
        verify(tmp_path, follower(FIRST), stream=STREAM_ID)


def test_spool_does_not_miss_delivered_streams(tmp_path: Path) -> None:
    """A stream that left the spool is not missed there."""
    write_spool(tmp_path, follower(FIRST))

    report = verify_source(open_source(tmp_path), KEYS)

    assert report.ok
    assert report.not_checked == [f"stream {STREAM_ID}: stream {NEXT_ID} continues it"]


def test_records_of_no_stream_are_findings(tmp_path: Path) -> None:
    """Records without a place in a stream are reported and counted."""
    stray = copy_of(FIRST[:1])[0]
    stray.original = b'{"message":"hello"}'
    stray.hash = document(altered(FIRST[0].original, "message", "x")).hash
    stray.sequence = 0
    stray.source["audit.sequence.stream_id"] = ""

    report = verify(tmp_path, FIRST, [stray])

    assert [found.code for found in report.findings] == ["original.malformed"]
    assert report.records == 21


def test_no_trusted_key_is_an_error(tmp_path: Path) -> None:
    """Without a key signatures cannot be checked, and that is an error."""
    path = write_archive(tmp_path / "audit.jsonl", FIRST)

    with pytest.raises(KeyFileError, match="--unsigned"):
        verify_source(open_source(path), {})
    report = verify_source(open_source(path), None)
    assert report.ok
    assert report.to_json()["signatures"] == "not checked"


class _Arriving:
    """A live source in which a batch becomes visible only at the second read."""

    name = "arriving"
    complete = True
    live = True

    def __init__(self, first: list[Document], then: list[Document]) -> None:
        self.looks = [first, then]

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        documents = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return (record for record in records(documents) if selection.takes_stream(record.stream_id))


def test_gap_in_a_stream_that_writes_right_now_is_looked_at_again() -> None:
    """A batch in transit is no finding; one that stays missing is."""
    now = NOW.replace(hour=3, minute=30, second=30)
    holed = KILLED[:6] + KILLED[8:]

    assert verify_source(_Arriving(holed, KILLED), KEYS, now=now, settle=5).findings == []
    assert named(verify_source(_Arriving(holed, holed), KEYS, now=now, settle=0.01).findings) == [
        ("chain.gap", 7, 8)
    ]


def test_progress_is_told(tmp_path: Path) -> None:
    """A long read reports its progress."""
    told: list[int] = []
    path = write_archive(tmp_path / "audit.jsonl", make_stream(10_001, every=1000))

    verify_source(open_source(path), KEYS, now=NOW, progress=told.append)

    assert told == [10_000]
