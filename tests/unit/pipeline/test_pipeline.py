from __future__ import annotations

import asyncio
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from mlaudit import record
from mlaudit.errors import AuditRefusedError, SpoolFullError, SpoolUnavailableError
from mlaudit.event import AuditEvent
from mlaudit.pipeline import current
from mlaudit.seal.checkpoint import SignedNote, VerifyingKey
from mlaudit.testing import AuditLog, capture

REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-01-01, changes: first, reason: test, sections: [3]}]
rules:
  - name: strict
    match: {kind: audit.ml.training.*}
    level: metadata
    on_failure: refuse
  - name: silent
    match: {kind: audit.api.request}
    level: none
  - name: rest
    level: metadata
    guarantee: buffered
"""
FULL = SpoolFullError("full")


def quiet(log: AuditLog) -> list[dict[str, Any]]:
    """The records that are not about the stream or the policy."""
    return [r for r in log.records if not r["audit.kind"].startswith(("audit.stream.", "audit.policy."))]


def test_stream_begins_with_its_key_and_policy() -> None:
    """The first records name the signing key and the policy."""
    with capture(instrument=False) as log:
        first, second = log.records[:2]
        assert first["audit.kind"] == "audit.stream.started"
        key = VerifyingKey.decode(first["audit.stream.public_key"])
        assert key.id == first["audit.stream.key_id"]
        assert second["audit.kind"] == "audit.policy.loaded"
        assert second["audit.policy.digest"] == log.pipeline.policy.digest


def test_records_form_a_chain() -> None:
    """Each record names the hash of the previous one, and its own place."""
    from hashlib import sha256

    with capture(instrument=False) as log:
        for _ in range(5):
            log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        previous = "0" * 64
        for number, original in enumerate(log.originals, 1):
            record = json.loads(original)
            assert record["audit.sequence.number"] == number
            assert record["audit.sequence.previous_hash"] == previous
            previous = sha256(original).hexdigest()


def test_level_none_is_no_record() -> None:
    """An event that the policy excludes is counted and not recorded."""
    with capture(REFUSE, instrument=False) as log:
        receipt = log.pipeline.emit(AuditEvent("audit.api.request"))
        assert receipt.ok
        assert log.pipeline.counts.suppressed == 1
        assert not log.of("audit.api.request")


@pytest.mark.parametrize("value", [None, math.nan])
def test_fields_that_cannot_be_recorded_leave_a_reduced_record(value: object) -> None:
    """A value that JSON cannot represent costs the event its fields, not its record."""
    with capture(instrument=False) as log:
        event = AuditEvent("audit.ml.prediction", fields={"ml.model.name": "m", "labels.x": value})
        log.pipeline.emit(event)
        (record,) = log.of("audit.ml.prediction")
        assert record["audit.failed"] is True
        assert record["audit.record.id"] == event.record_id
        assert record["audit.failure.reason"]
        assert "ml.model.name" not in record
        assert log.pipeline.counts.faults == 1


def test_unknown_kind_is_told_as_a_failure() -> None:
    """An event of an undefined kind becomes a failure record that names it."""
    with capture(instrument=False) as log:
        log.pipeline.emit(AuditEvent("audit.made.up"))
        (record,) = log.of("audit.pipeline.failure")
        assert "audit.made.up" in record["audit.failure.reason"]


def test_losses_are_counted_and_told_when_writing_works_again() -> None:
    """Records lost to a full disk are counted by reason in a later record."""
    with capture(REFUSE, instrument=False) as log:
        log.fail(FULL)
        receipts = [log.pipeline.emit(AuditEvent("audit.ml.prediction")) for _ in range(3)]
        assert not any(receipt.ok for receipt in receipts)
        assert sum(log.pipeline.counts.lost.values()) == 3
        log.heal()
        log.pipeline.close("done", 0)
        (record,) = log.of("audit.pipeline.failure")
        assert record["audit.lost.count"] == 3
        assert record["audit.lost.reason"] == "audit.ml.prediction: SpoolFullError"


def test_chain_stands_where_it_stood_after_a_failed_append() -> None:
    """A record that could not be stored leaves no gap in the chain."""
    with capture(instrument=False) as log:
        log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        log.fail(FULL)
        log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        log.heal()
        log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        numbers = [record["audit.sequence.number"] for record in log.records]
        assert numbers == list(range(1, len(numbers) + 1))


def test_refuse_raises_and_is_told_later() -> None:
    """If the policy says refuse, the caller is stopped, and the refusal is recorded when that is possible."""
    with capture(REFUSE, instrument=False) as log:
        log.fail(SpoolUnavailableError("read-only"))
        assert not log.pipeline.writable()
        with pytest.raises(AuditRefusedError, match="read-only"):
            log.pipeline.emit(AuditEvent("audit.ml.training.started"))
        log.heal()
        assert log.pipeline.writable()
        log.pipeline.close("done", 0)
        (record,) = log.of("audit.pipeline.failure")
        assert record["audit.lost.reason"].startswith("refused audit.ml.training.started")


def test_fault_of_a_hook_names_the_component_once() -> None:
    """The same fault of a hook is one record however often it happens, and counted every time."""
    with capture(instrument=False) as log:
        for _ in range(5):
            log.pipeline.fault("sklearn", ValueError("secret 4711"))
        (record,) = log.of("audit.pipeline.failure")
        assert record["audit.component"] == "sklearn"
        assert record["error.type"] == "ValueError"
        assert "4711" not in json.dumps(record)
        assert log.pipeline.counts.faults == 5


def test_fault_with_a_kind_is_a_reduced_record_of_the_event() -> None:
    """A fault that costs an event's content leaves a record of that event, marked as failed."""
    with capture(instrument=False) as log:
        log.pipeline.fault(
            "asgi", KeyError("x"), kind="audit.ml.prediction", fields={"http.route": "/predict"}
        )
        (record,) = log.of("audit.ml.prediction")
        assert (record["audit.failed"], record["http.route"]) == (True, "/predict")


def test_end_is_signed_over_everything_before() -> None:
    """The last record of a stream carries a valid signature of the previous record."""
    with capture(instrument=False) as log:
        key = VerifyingKey.decode(log.records[0]["audit.stream.public_key"])
        log.pipeline.close("the reason", 0)
        *_, before, last = log.records
        assert last["audit.kind"] == "audit.stream.ended"
        assert last["event.reason"] == "the reason"
        note = SignedNote.parse(last["audit.checkpoint.note"])
        assert note.signed_by({key.id: key}) == key
        assert note.checkpoint.sequence == before["audit.sequence.number"]
        assert note.checkpoint.hash == last["audit.sequence.previous_hash"]


def test_record_after_the_end_begins_a_linked_stream() -> None:
    """A record after the end starts a new stream, which names the old one and its head."""
    with capture(instrument=False) as log:
        old = log.pipeline.stream_id
        log.pipeline.close("over", 0)
        last = log.records[-1]
        log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        assert log.pipeline.stream_id != old
        (started,) = [r for r in log.of("audit.stream.started") if r["audit.sequence.stream_id"] != old]
        assert started["audit.stream.previous.id"] == old
        assert started["audit.stream.previous.sequence"] == last["audit.sequence.number"]


def test_checkpoints_come_by_count_without_being_asked() -> None:
    """The pipeline signs a checkpoint after the configured number of records."""
    import time

    with capture(env={"MLAUDIT_CHECKPOINT_RECORDS": "5"}, instrument=False) as log:
        for _ in range(6):
            log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        deadline = time.monotonic() + 10
        while not log.of("audit.stream.checkpoint") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert log.of("audit.stream.checkpoint")


def test_receipt_can_be_awaited() -> None:
    """A receipt is awaited without blocking the loop."""

    async def run() -> bool:
        return await log.pipeline.emit(AuditEvent("audit.ml.model.saved"), wait=False).wait_async()

    with capture(instrument=False) as log:
        assert asyncio.run(run())


def test_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MLAUDIT_ENABLED there is no pipeline."""
    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    previous = current.install(None)
    try:
        assert current.pipeline() is None
    finally:
        current.install(previous)


def test_wrong_settings_switch_auditing_off_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Invalid settings and an unreadable key are reported on stderr, and the process runs unaudited."""
    monkeypatch.setenv("MLAUDIT_ENABLED", "true")
    monkeypatch.setenv("MLAUDIT_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MLAUDIT_PSEUDONYM_KEY_FILE", str(tmp_path / "absent.key"))
    previous = current.install(None)
    try:
        assert current.pipeline() is None
        assert current.pipeline() is None
    finally:
        current.install(previous)
    said = capsys.readouterr().err
    assert said.count("AUDITING IS OFF") == 1
    assert "absent.key" in said


def test_forked_child_writes_its_own_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A forked child starts a stream that names its parent's; the parent's stream continues unbroken."""
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    from mlaudit.deliver.spool import files, layout

    monkeypatch.setenv("MLAUDIT_ENABLED", "true")
    monkeypatch.setenv("MLAUDIT_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MLAUDIT_ENDPOINT", "http://127.0.0.1:9")
    previous = current.install(None)
    try:
        parent = current.pipeline()
        assert parent is not None
        parent.emit(AuditEvent("audit.ml.prediction"))
        child = os.fork()
        if child == 0:
            try:
                mine = current.pipeline()
                assert mine is not None
                mine.emit(AuditEvent("audit.ml.prediction"))
                mine.close("child", 0)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        parent.emit(AuditEvent("audit.ml.prediction"))
        own = parent.stream_id
        parent.close("parent", 0)
    finally:
        current.install(previous)
    kinds: dict[str, list[str]] = {}
    parents: dict[str, str] = {}
    for folder in layout.streams(tmp_path / "spool"):
        for segment in layout.segments(folder):
            for frame in files.read_frames(segment)[0]:
                record = json.loads(LogRecord.FromString(frame.payload).body.string_value)
                kinds.setdefault(folder.name, []).append(record["audit.kind"])
                if "audit.stream.parent.id" in record:
                    parents[folder.name] = record["audit.stream.parent.id"]
    assert len(kinds) == 2
    assert kinds[own].count("audit.ml.prediction") == 2
    assert list(parents.values()) == [own]


def test_interrupt_in_the_middle_of_a_record_costs_the_stream_not_the_chain() -> None:
    """After Ctrl-C between storing and advancing, the next record starts a new stream instead of a second history."""
    with capture(instrument=False) as log:
        log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        first = log.pipeline.stream
        assert first is not None
        chain = first._chain

        def interrupt(chain: object, entry: object) -> None:
            raise KeyboardInterrupt

        real, chain_type = type(chain).advance, type(chain)
        chain_type.advance = interrupt  # type: ignore[method-assign,assignment]
        try:
            with pytest.raises(KeyboardInterrupt):
                log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        finally:
            chain_type.advance = real  # type: ignore[method-assign]
        log.pipeline.emit(AuditEvent("audit.ml.prediction"))
        places = [(r["audit.sequence.stream_id"], r["audit.sequence.number"]) for r in log.records]
        assert len(set(places)) == len(places)
        assert len({stream for stream, _ in places}) == 2


def test_record_finds_its_stream_behind_several_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """When several streams end in a row, a record goes into the first stream that accepts it."""
    with capture(instrument=False) as log:
        ready = log.pipeline._ready_stream
        ended: list[str] = []

        def over() -> Any:
            stream = ready()
            if len(ended) < 3:
                ended.append(stream.id)
                log.pipeline.close("over", 0)
            return stream

        monkeypatch.setattr(log.pipeline, "_ready_stream", over)
        log.pipeline.close("over", 0)
        assert log.pipeline.emit(AuditEvent("audit.ml.prediction")).ok
        (record,) = log.of("audit.ml.prediction")
        assert len(set(ended)) == 3
        assert record["audit.sequence.stream_id"] not in ended
        assert log.pipeline.counts.lost == {}


def test_no_record_comes_after_the_end() -> None:
    """Threads that write while the stream ends lose nothing, and no record follows a stream's end."""
    import threading

    with capture(instrument=False) as log:
        stop = threading.Event()
        written: list[str] = []

        def write() -> None:
            while not stop.is_set():
                written.append(log.pipeline.emit(AuditEvent("audit.ml.prediction")).record_id)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            log.pipeline.close("over", 0)
        stop.set()
        for thread in threads:
            thread.join()
        streams: dict[str, list[dict[str, Any]]] = {}
        for record in log.records:
            streams.setdefault(record["audit.sequence.stream_id"], []).append(record)
        assert set(written) <= {record["audit.record.id"] for record in log.records}
        for stream in streams.values():
            assert [r["audit.sequence.number"] for r in stream] == list(range(1, len(stream) + 1))
            ends = [n for n, r in enumerate(stream, 1) if r["audit.kind"] == "audit.stream.ended"]
            assert ends in ([], [len(stream)])
            for number in ends:
                assert stream[-1]["audit.checkpoint.sequence"] == number - 1


@pytest.mark.parametrize(
    "name",
    [
        "audit.sequence.number",
        "audit.sequence.previous_hash",
        "audit.kind",
        "audit.policy.rule",
        "event.dataset",
    ],
)
def test_an_event_cannot_pose_as_another_record(name: str) -> None:
    """A field of the record's identity or place is refused, and the event leaves a reduced record."""
    with capture(instrument=False) as log:
        log.pipeline.emit(AuditEvent("audit.ml.prediction", fields={name: "1"}))
        (record,) = log.of("audit.ml.prediction")
        assert name in record["audit.failure.reason"]
        assert record["event.dataset"] == "mlaudit.prediction"
        assert log.originals[-1].count(b'"' + name.encode() + b'":') == 1


def test_unprotected_endpoint_switches_auditing_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain http beyond this machine is refused and reported before anything is written or sent."""
    monkeypatch.setenv("MLAUDIT_ENABLED", "true")
    monkeypatch.setenv("MLAUDIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MLAUDIT_ENDPOINT", "http://collector.example.org:4318")
    previous = current.install(None)
    try:
        assert current.pipeline() is None
    finally:
        current.install(previous)
    said = capsys.readouterr().err
    assert "AUDITING IS OFF" in said
    assert "expected https:// beyond this machine" in said
    assert not (tmp_path / "state").exists()


def test_accepted_exposure_is_in_the_streams_first_record() -> None:
    """If MLAUDIT_INSECURE allows an unprotected connection, the trail records it."""
    exposed = {"MLAUDIT_ENDPOINT": "http://collector.example.org:4318", "MLAUDIT_INSECURE": "true"}
    with capture(env=exposed, instrument=False) as log:
        record("audit.app.thing")
    assert log.of("audit.stream.started")[0]["audit.stream.insecure"] is True
    with capture(instrument=False) as log:
        record("audit.app.thing")
    assert "audit.stream.insecure" not in log.of("audit.stream.started")[0]
