"""What a power failure costs: at most the last 50 ms of buffered records, and never the truth of the chain."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from tests.fault.powercut import KILLED, Disk
from tests.unit.deliver.receiver import TAKEN, Receiver, Reply

from mlaudit.deliver.spool import files, layout, lock
from mlaudit.event import AuditEvent
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.records.build import RecordBuilder
from mlaudit.settings import Settings

BUFFERED, DURABLE = "audit.ml.prediction", "audit.ml.model.saved"
RECORDS = 1500
CUTS = 30
PROMISED = 0.05
# How late the thread that syncs may get to run on a machine that is busy with other things.
LATE = 0.5


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    running = Receiver()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several segments in little time."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool.SEGMENT_BYTES", 128 << 10)


def settings(state: Path, endpoint: str, spool: Path | None = None) -> Settings:
    """Settings of an audited process."""
    return Settings.from_env(
        {
            "MLAUDIT_ENABLED": "true",
            "MLAUDIT_STATE_DIR": str(state),
            "MLAUDIT_SPOOL_DIR": str(spool or state / "spool"),
            "MLAUDIT_ENDPOINT": endpoint,
            "MLAUDIT_SERVICE_NAME": "power",
            "MLAUDIT_CHECKPOINT_RECORDS": "200",
        }
    )


def record_and_send(state: Path, receiver: Receiver) -> Disk:
    """The log of a disk under a process that records from two threads and sends, with what it was promised."""
    (state / "spool").mkdir(parents=True)
    disk = Disk(state / "spool")
    busy = random.Random(1)

    def script(records: list[LogRecord], headers: dict[str, str]) -> Reply:
        if busy.random() < 0.3:
            return 503, {"retry-after": "0"}, b""
        disk.mark("received", [record.SerializeToString() for record in records])
        return TAKEN

    receiver.script = script
    with disk:
        pipeline = Pipeline(
            settings(state, receiver.endpoint), SpoolBackend(settings(state, receiver.endpoint))
        )

        def emit(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(RECORDS // 2):
                kind = DURABLE if dice.random() < 0.1 else BUFFERED
                event = AuditEvent(kind, fields={"labels": {"padding": "x" * dice.randint(0, 2000)}})
                receipt = pipeline.emit(event)
                disk.mark("returned", (receipt.record_id, kind == DURABLE and receipt.ok))
                if dice.random() < 0.02:
                    time.sleep(dice.random() * 0.1)

        threads = [threading.Thread(target=emit, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log = list(disk.log)
        pipeline.close("the test is over", 5.0)
    disk.log = log
    return disk


def drain(state: Path, spool: Path, receiver: Receiver) -> list[LogRecord]:
    """What the next process delivers of a spool."""
    before = len(receiver.taken)
    backend = SpoolBackend(settings(state, receiver.endpoint, spool))
    left = len(layout.streams(spool))
    assert backend.adopt(RecordBuilder({"service.name": "next"}), seconds=20) == left
    assert layout.streams(spool) == []
    return receiver.taken[before:]


def read(payload: bytes) -> dict[str, Any]:
    """A record as JSON, with its payload beside it."""
    record = json.loads(LogRecord.FromString(payload).body.string_value)
    assert isinstance(record, dict)
    return record


def test_a_power_failure_at_any_moment_costs_the_last_50_ms_at_most(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durable records are all there, buffered ones but the newest, nothing has two contents, and the end says why."""
    disk = record_and_send(tmp_path / "state", receiver)
    receiver.script = lambda records, headers: TAKEN
    monkeypatch.setattr(lock, "boot_id", lambda: "after the restart")
    dice = random.Random(7)
    missing = 0
    for cut in range(CUTS):
        moment = dice.randint(1, len(disk.log)) if cut else len(disk.log)
        spool = tmp_path / f"cut{cut}"
        spool.mkdir()
        disk.after_cut(moment, spool, dice if cut % 3 else None)
        at = disk.log[moment - 1].time
        received = [p for c in disk.log[:moment] if c.what == "received" for p in c.value]
        drained = [record.SerializeToString() for record in drain(tmp_path / "state", spool, receiver)]
        by_sequence: dict[int, bytes] = {}
        for payload in [*received, *drained]:
            sequence = read(payload)["audit.sequence.number"]
            assert by_sequence.setdefault(sequence, payload) == payload, f"cut {cut}: two records {sequence}"
        records = {sequence: read(payload) for sequence, payload in by_sequence.items()}
        ids = {record["audit.record.id"] for record in records.values()}
        for change in disk.log[:moment]:
            if change.what == "returned" and change.value[0] not in ids:
                missing += 1
                assert not change.value[1], f"cut {cut}: a durable record is lost"
                assert at - change.time < PROMISED + LATE, f"cut {cut}: a buffered record is lost"
        if not drained:
            continue
        last = max(records)
        assert records[last]["audit.kind"] == "audit.stream.abandoned"
        assert records[last]["audit.stream.restarted"] is True
        gaps = [n for n in range(1, last) if n not in records]
        assert bool(gaps) <= ("audit.lost.count" in records[last]), f"cut {cut}: a hole that nobody mentions"
        for sequence, record in records.items():
            if sequence - 1 in records:
                before = LogRecord.FromString(by_sequence[sequence - 1])
                (stated,) = [
                    a.value.string_value for a in before.attributes if a.key == "audit.integrity.value"
                ]
                assert record["audit.sequence.previous_hash"] == stated
    assert missing, "no cut hit an unsynced record: the layer drops nothing"


SERVICE = """
import sys, threading
from mlaudit.pipeline import current
from mlaudit.event import AuditEvent
p = current.pipeline()
while True:
    receipt = p.emit(AuditEvent("audit.ml.model.saved"))
    if receipt.ok:
        sys.stdout.write(receipt.record_id + "\\n")
        sys.stdout.flush()
"""


def test_power_failure_of_a_whole_process(tmp_path: Path, receiver: Receiver) -> None:
    """A process that loses power in the middle of its work leaves every record that it confirmed as durable."""
    (tmp_path / "state" / "spool").mkdir(parents=True)
    (tmp_path / "script.py").write_text(SERVICE)
    (tmp_path / "after").mkdir()
    trigger = tmp_path / "trigger"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.fault.powercut",
            tmp_path / "state" / "spool",
            tmp_path / "after",
            trigger,
            tmp_path / "script.py",
        ],
        cwd=Path(__file__).parents[2],
        env={
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("MLAUDIT_", "OTEL_"))
            },
            "MLAUDIT_ENABLED": "true",
            "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
            "MLAUDIT_ENDPOINT": "http://127.0.0.1:9",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ids = [process.stdout.readline().strip() for _ in range(50)]
    trigger.touch()
    ids += process.stdout.read().split("\n")[:-1]
    assert process.wait(30) == KILLED
    stored = {
        read(r.SerializeToString())["audit.record.id"]
        for r in drain(tmp_path / "state", tmp_path / "after", receiver)
    }
    assert len(ids) >= 50
    assert not set(ids) - stored


def test_layer_keeps_exactly_what_is_synced(tmp_path: Path) -> None:
    """Of a file the synced bytes stay, of a folder the synced names; the rest is as it was before."""
    root = tmp_path / "root"
    root.mkdir()
    with Disk(root) as disk:
        (root / "folder").mkdir()
        descriptor = os.open(root / "folder" / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, b"synced")
        os.fsync(descriptor)
        no_name = len(disk.log)
        files.sync_folder(root / "folder")
        files.sync_folder(root)
        named = len(disk.log)
        os.write(descriptor, b", not synced")
        (root / "folder" / "file").rename(root / "folder" / "other")
        unsynced = len(disk.log)
        os.fdatasync(descriptor)
        files.sync_folder(root / "folder")
        os.close(descriptor)
    found: list[dict[str, bytes]] = []
    for number, moment in enumerate((no_name, named, unsynced, len(disk.log))):
        into = tmp_path / str(number)
        disk.after_cut(moment, into)
        found.append({str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()})
    assert found == [
        {},
        {"folder/file": b"synced"},
        {"folder/file": b"synced"},
        {"folder/other": b"synced, not synced"},
    ]
