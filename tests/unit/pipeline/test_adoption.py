from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.deliver.receiver import PROTOBUF, TAKEN, Receiver

from mlaudit.deliver.spool import files, layout, lock
from mlaudit.deliver.spool.segment_file import SegmentFile
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.errors import DiskFullError
from mlaudit.event import AuditEvent
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.records.build import RecordBuilder
from mlaudit.settings import Settings

NOBODY = "http://127.0.0.1:9/v1/logs"
RECORDS = 20


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that accepts everything."""
    running = Receiver()
    yield running
    running.close()


def settings(state: Path, endpoint: str = NOBODY, **more: str) -> Settings:
    """Settings of an audited process."""
    return Settings.from_env(
        {
            "MLAUDIT_ENABLED": "true",
            "MLAUDIT_STATE_DIR": str(state),
            "MLAUDIT_ENDPOINT": endpoint,
            "MLAUDIT_SERVICE_NAME": "adopted",
            **{f"MLAUDIT_{name.upper()}": value for name, value in more.items()},
        }
    )


def leave_behind(state: Path) -> Path:
    """A process emits some records and dies; the folder of its stream."""
    child = os.fork()
    if child == 0:
        try:
            pipeline = Pipeline(settings(state), SpoolBackend(settings(state)))
            for _ in range(RECORDS):
                pipeline.emit(AuditEvent("audit.ml.prediction"))
            pipeline.stream.delivery.spool.sync()  # type: ignore[union-attr]
        finally:
            os._exit(9)
    os.waitpid(child, 0)
    (folder,) = layout.streams(state / "spool")
    return folder


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    """The records that arrived."""
    return [json.loads(record.body.string_value) for record in receiver.taken]


def adopt(
    state: Path, receiver: Receiver, told: list[tuple[int, str]] | None = None, seconds: float = 20.0
) -> int:
    """Adopts everything, as the next process would."""
    backend = SpoolBackend(settings(state, receiver.endpoint))
    report = (lambda count, reason: told.append((count, reason))) if told is not None else lambda *_: None
    return backend.adopt(RecordBuilder({"service.name": "next"}), "", report, seconds)


def test_delivered_stream_is_retained(tmp_path: Path, receiver: Receiver) -> None:
    """An adopted, delivered stream is in the retained folder, its last record included."""
    folder = leave_behind(tmp_path)
    assert adopt(tmp_path, receiver) == 1
    assert layout.streams(tmp_path / "spool") == []
    (kept,) = layout.retained_streams(tmp_path / "spool")
    assert kept.name == folder.name
    frames = [frame for path in layout.segments(kept) for frame in files.read_frames(path)[0]]
    assert len(frames) == len(receiver.taken)


def test_restart_of_the_machine_is_said(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that closes a stream from before a restart reports it and what may be missing; others do not."""
    leave_behind(tmp_path)
    monkeypatch.setattr(lock, "boot_id", lambda: "after the restart")
    leave_behind_after = adopt(tmp_path, receiver)
    assert leave_behind_after == 1
    last = bodies(receiver)[-1]
    assert last["audit.kind"] == "audit.stream.abandoned"
    assert last["audit.stream.restarted"] is True
    assert "50 ms" in last["event.reason"]
    leave_behind(tmp_path)
    adopt(tmp_path, receiver)
    assert "audit.stream.restarted" not in bodies(receiver)[-1]


def test_damage_in_the_middle_is_told_and_the_chain_is_closed_on_its_last_record(
    tmp_path: Path, receiver: Receiver
) -> None:
    """The other records arrive; the end follows the last readable one and counts the missing ones."""
    folder = leave_behind(tmp_path)
    (segment,) = layout.segments(folder)
    frames, _ = files.read_frames(segment)
    raw = bytearray(segment.read_bytes())
    raw[frames[5].end + 100] ^= 1
    segment.write_bytes(raw)
    told: list[tuple[int, str]] = []
    assert adopt(tmp_path, receiver, told) == 1
    assert [count for count, _ in told] == [1]
    records = bodies(receiver)
    sequences = [record["audit.sequence.number"] for record in records]
    assert sequences == [n for n in range(1, len(frames) + 2) if n != 7]
    assert records[-1]["audit.checkpoint.hash"] == frames[-1].digest.hex()
    assert records[-1]["audit.lost.count"] == 1
    assert "quarantine" in records[-1]["audit.lost.reason"]
    assert layout.streams(tmp_path / "spool") == []


def test_stream_whose_delivered_end_is_unreadable_is_not_ended(tmp_path: Path, receiver: Receiver) -> None:
    """When the receiver has records that are unreadable here, no other record takes their sequence."""
    folder = leave_behind(tmp_path)
    (segment,) = layout.segments(folder)
    frames, _ = files.read_frames(segment)
    descriptor = files.open_ack(folder)
    files.write_ack(descriptor, files.Ack(frames[-1].sequence, 1, frames[-1].end))
    os.close(descriptor)
    raw = bytearray(segment.read_bytes())
    raw[-1] ^= 1
    segment.write_bytes(raw)
    told: list[tuple[int, str]] = []
    assert adopt(tmp_path, receiver, told) == 1
    assert receiver.taken == []
    assert any("cannot be ended" in reason for _, reason in told)
    assert layout.streams(tmp_path / "spool") == []


def test_damage_is_recorded_in_the_chain_of_the_adopting_process(tmp_path: Path, receiver: Receiver) -> None:
    """The service that adopts a damaged stream records in its own chain how much is missing, and where the rest is."""
    folder = leave_behind(tmp_path)
    (segment,) = layout.segments(folder)
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 1
    segment.write_bytes(raw)
    pipeline = Pipeline(
        settings(tmp_path, receiver.endpoint), SpoolBackend(settings(tmp_path, receiver.endpoint))
    )
    pipeline.open()
    receiver.wait_for(lambda r: any(one.event_name == "audit.pipeline.failure" for one in r.taken))
    pipeline.close("the test is over")
    (failure,) = [record for record in bodies(receiver) if record["audit.kind"] == "audit.pipeline.failure"]
    assert failure["audit.sequence.stream_id"] != folder.name
    assert failure["audit.lost.count"] == 1
    assert str(layout.quarantine_folder(folder)) in failure["audit.lost.reason"]


def test_stream_that_cannot_be_drained_is_left_in_peace_for_a_while(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the receiver is unreachable a stream is not read in every round; it is drained when it is back."""
    folder = leave_behind(tmp_path)
    receiver.script = lambda records, headers: (503, {}, b"")
    monkeypatch.setattr("mlaudit.pipeline.adoption._FIRST_PAUSE", 0.5)
    backend = SpoolBackend(settings(tmp_path, receiver.endpoint))
    adopted: list[Path] = []
    real = StreamSpool.adopt.__func__  # type: ignore[attr-defined]

    def count(cls: type[StreamSpool], path: Path, *args: Any) -> Any:
        adopted.append(path)
        return real(cls, path, *args)

    monkeypatch.setattr(StreamSpool, "adopt", classmethod(count))
    builder = RecordBuilder({"service.name": "next"})
    for _ in range(3):
        assert backend.adopt(builder, seconds=0.2) == 0
    assert adopted == [folder]
    receiver.script = lambda records, headers: TAKEN
    deadline = time.monotonic() + 20
    while not backend.adopt(builder, seconds=10) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert layout.streams(tmp_path / "spool") == []
    ends = [r for r in bodies(receiver) if r["audit.kind"] == "audit.stream.abandoned"]
    assert len(ends) == 1


def test_stream_is_free_again_after_an_answer_that_came_too_late(tmp_path: Path, receiver: Receiver) -> None:
    """An adopter whose receiver hangs releases the stream when the answer arrives, and it can be drained."""
    leave_behind(tmp_path)

    def hang(records: object, headers: object) -> tuple[int, dict[str, str], bytes]:
        time.sleep(2.5)
        return 503, PROTOBUF, b""

    receiver.script = hang
    assert adopt(tmp_path, receiver, seconds=0.3) == 0
    receiver.script = lambda records, headers: TAKEN
    deadline = time.monotonic() + 20
    while not adopt(tmp_path, receiver) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert layout.streams(tmp_path / "spool") == []


def test_full_disk_does_not_stand_in_the_way_of_what_empties_it(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose end cannot be written to a full disk is still sent, and closed the next time."""

    def full(segment: SegmentFile, data: bytes) -> None:
        raise DiskFullError(f"{segment.path}: no space left")

    folder = leave_behind(tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr(SegmentFile, "append", full)
        assert adopt(tmp_path, receiver) == 0
    sent = len(receiver.taken)
    assert sent > RECORDS
    assert layout.streams(tmp_path / "spool") == [folder]
    assert adopt(tmp_path, receiver) == 1
    assert [record["audit.kind"] for record in bodies(receiver)[sent:]] == ["audit.stream.abandoned"]
    assert layout.streams(tmp_path / "spool") == []
