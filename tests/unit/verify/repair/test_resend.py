from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from tests.sealed import (
    STREAM_ID,
    Document,
    altered,
    document,
    make_stream,
    payload,
    write_archive,
    write_spool,
)

from mlaudit.deliver.send.answer import Answer, Verdict
from mlaudit.deliver.spool import files, layout
from mlaudit.verify.repair.originals import Original, read_archive, read_spool
from mlaudit.verify.repair.resend import Anchors, Resend

VALID = make_stream()
TAKEN = Answer(Verdict.ACKNOWLEDGED)


class Collector:
    """Accepts every request, or returns the given responses."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.refuses: set[bytes] = set()
        self.bodies: list[bytes] = []
        self.resources: list[dict[str, Any]] = []

    def post(self, request: bytes) -> Answer:
        """One request."""
        if self.answers:
            return self.answers.pop(0)
        message = ExportLogsServiceRequest.FromString(request)
        (resource,) = message.resource_logs
        bodies = [record.body.string_value.encode() for record in resource.scope_logs[0].log_records]
        if self.refuses & set(bodies):
            return Answer(Verdict.DIVIDE, "HTTP 400")
        self.bodies += bodies
        self.resources.append({pair.key: pair.value.string_value for pair in resource.resource.attributes})
        return TAKEN

    def renew(self) -> None:
        """Nothing to read again."""

    def close(self) -> None:
        """Nothing to close."""


def everything(stream_id: str, sequence: int) -> bool:
    """Wants all."""
    return True


def retained(tmp_path: Path, documents: list[Document]) -> list[Original]:
    """The documents as a spool retains them after delivery."""
    write_spool(layout.retained_folder(tmp_path), documents)
    return list(read_spool(tmp_path, everything))


def test_originals_are_sent_byte_for_byte(tmp_path: Path) -> None:
    """Retained records arrive as the same LogRecords, with the resource of the process that wrote them."""
    collector = Collector()

    outcome = Resend(collector).run(retained(tmp_path, VALID))

    assert collector.bodies == [stored.original for stored in VALID]
    assert (outcome.count, outcome.by_place) == (20, {"retained": 20})
    assert collector.resources[0]["service.name"] == "scoring"


def test_archive_gives_the_same_records(tmp_path: Path) -> None:
    """A LogRecord from an archive equals the spooled one."""
    archive = write_archive(tmp_path / "audit.jsonl", VALID)

    found = list(read_archive([archive], everything))

    assert [original.fault for original in found] == [""] * 20
    assert [original.sequence for original in found] == list(range(1, 21))
    for original, stored in zip(found, VALID, strict=True):
        ours, theirs = LogRecord.FromString(original.payload), LogRecord.FromString(payload(stored))
        assert (ours.body, ours.event_name) == (theirs.body, theirs.event_name)
        assert _attributes(ours) == _attributes(theirs)


def _attributes(record: LogRecord) -> dict[str, str]:
    return {pair.key: str(pair.value) for pair in record.attributes}


def test_record_in_two_places_is_sent_once(tmp_path: Path) -> None:
    """A record in both the retained window and the archive is sent once."""
    archive = write_archive(tmp_path / "audit.jsonl", VALID)
    collector = Collector()

    outcome = Resend(collector).run([*retained(tmp_path, VALID[:10]), *read_archive([archive], everything)])

    assert len(collector.bodies) == 20
    assert outcome.by_place == {"retained": 10, "archive": 10}


def test_undelivered_records_are_left_to_their_sender(tmp_path: Path) -> None:
    """Records that wait in the spool are left to the process that wrote them."""
    write_spool(tmp_path, VALID)
    collector = Collector()

    outcome = Resend(collector).run(read_spool(tmp_path, everything))

    assert (outcome.waiting, outcome.count, collector.bodies) == (20, 0, [])


def test_set_aside_records_are_tried_again(tmp_path: Path) -> None:
    """Records that the collector rejected are sent again from the quarantine."""
    folder = layout.quarantine_folder(layout.stream_folder(tmp_path, STREAM_ID))
    folder.mkdir(parents=True)
    (folder / f"{5:020d}.otlp").write_bytes(payload(VALID[4]))
    collector = Collector()

    outcome = Resend(collector).run(read_spool(tmp_path, everything))

    assert (outcome.by_place, collector.bodies) == ({"quarantine": 1}, [VALID[4].original])


def test_changed_record_is_not_sent(tmp_path: Path) -> None:
    """A body with another hash than the stored one, or with another place, is rejected and reported."""
    changed = list(VALID)
    changed[4] = replace(VALID[4], original=altered(VALID[4].original, "message", "forged"))
    archive = write_archive(tmp_path / "audit.jsonl", changed)
    collector = Collector()

    outcome = Resend(collector).run(read_archive([archive], everything))

    assert (outcome.count, outcome.refused_count) == (19, 1)
    assert "record 5 of stream" in outcome.refused[0]


@pytest.mark.parametrize("side", ["behind", "before"])
def test_record_that_does_not_fit_its_neighbours_is_not_sent(tmp_path: Path, side: str) -> None:
    """A record that was altered and hashed again contradicts what is stored around the gap."""
    forged = document(altered(VALID[4].original, "message", "forged"))
    archive = write_archive(tmp_path / "audit.jsonl", [forged])
    anchors = Anchors()
    if side == "behind":
        anchors.hashes[STREAM_ID, 5] = VALID[4].hash
    else:
        anchors.before[STREAM_ID, 5] = "f" * 64
    collector = Collector()

    outcome = Resend(collector, anchors).run(read_archive([archive], everything))

    assert (outcome.refused_count, collector.bodies) == (1, [])


def test_forged_record_inside_a_gap_is_not_followed(tmp_path: Path) -> None:
    """In a longer gap the record after a forged one names another hash, so the break is found."""
    forged = [*VALID[:4], document(altered(VALID[4].original, "message", "forged")), *VALID[5:]]
    archive = write_archive(tmp_path / "audit.jsonl", forged)

    outcome = Resend(Collector()).run(read_archive([archive], everything))

    assert outcome.refused_count == 1
    assert "record 6 of stream" in outcome.refused[0]


def test_dry_run_sends_nothing(tmp_path: Path) -> None:
    """A dry run checks and counts everything, and sends nothing."""
    collector = Collector()

    outcome = Resend(collector, dry_run=True).run(retained(tmp_path, VALID))

    assert (outcome.count, collector.bodies) == (20, [])


def test_collector_that_refuses_one_record_gets_the_rest(tmp_path: Path) -> None:
    """A batch with a record that the collector refuses is divided until that one is alone."""
    collector = Collector()
    collector.refuses.add(VALID[7].original)

    outcome = Resend(collector).run(retained(tmp_path, VALID))

    assert outcome.count == 19
    assert len(outcome.undelivered) == 1
    assert f"{STREAM_ID} 8" in outcome.undelivered[0]


def test_collector_that_stumbles_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary error is retried after a pause; a lasting one ends the run and reports the unsent records."""
    monkeypatch.setattr("mlaudit.verify.repair.resend._FIRST_PAUSE", 0.001)
    kept = retained(tmp_path, VALID)
    stumbles = Collector(Answer(Verdict.RETRY, "HTTP 503"), Answer(Verdict.UNAUTHENTICATED, "HTTP 401"))

    assert Resend(stumbles).run(kept).count == 20
    away = Resend(Collector(*[Answer(Verdict.RETRY, "HTTP 503")] * 10)).run(kept)
    assert (away.count, len(away.undelivered)) == (0, 1)


def test_acknowledged_part_of_a_spool_counts_as_retained(tmp_path: Path) -> None:
    """Acknowledged records that are still in the stream's folder can be sent again."""
    write_spool(tmp_path, VALID, segment=8)
    folder = layout.streams(tmp_path)[0]
    descriptor = files.open_ack(folder)
    files.write_ack(descriptor, files.Ack(8, 1, 0))

    places = [original.place for original in read_spool(tmp_path, everything)]

    assert places == ["retained"] * 8 + ["spool"] * 12
