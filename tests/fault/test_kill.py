"""What real kills cost: nothing whose call has returned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from tests.unit.deliver.receiver import TAKEN, Receiver

from mlaudit.deliver.spool import files, layout
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.records.build import RecordBuilder
from mlaudit.settings import Settings

WRITER = """
import sys
from mlaudit.pipeline import current
from mlaudit.event import AuditEvent
p = current.pipeline()
kind = sys.argv[1]
while True:
    receipt = p.emit(AuditEvent(kind))
    assert receipt.ok
    sys.stdout.write(receipt.record_id + "\\n")
    sys.stdout.flush()
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    running = Receiver()
    yield running
    running.close()


def environment(state: Path, endpoint: str) -> dict[str, str]:
    """The environment of an audited process."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLAUDIT_", "OTEL_"))},
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_STATE_DIR": str(state),
        "MLAUDIT_ENDPOINT": endpoint,
        "MLAUDIT_SERVICE_NAME": "killed",
    }


def write_and_kill(
    env: dict[str, str], kind: str, count: int, before_kill: Callable[[], None] = lambda: None
) -> list[str]:
    """Kills a writing process after ``count`` of its calls have returned; their record ids."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, kind], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ids = [process.stdout.readline().strip() for _ in range(count)]
    drained: list[str] = []
    reader = threading.Thread(target=lambda: drained.extend(process.stdout.read().split("\n")[:-1]))
    reader.start()
    before_kill()
    process.send_signal(signal.SIGKILL)
    reader.join()
    ids += drained
    process.wait()
    return ids


def spooled(spool: Path) -> list[dict[str, object]]:
    """The records in a spool."""
    return [
        json.loads(LogRecord.FromString(frame.payload).body.string_value)
        for folder in layout.streams(spool)
        for segment in layout.segments(folder)
        for frame in files.read_frames(segment)[0]
    ]


@pytest.mark.parametrize("kind", ["audit.ml.prediction", "audit.ml.model.saved"])
def test_kill_loses_no_record_whose_call_returned(kind: str, tmp_path: Path) -> None:
    """After kill -9 every record whose emit had returned, buffered or durable, is in the spool."""
    ids = write_and_kill(environment(tmp_path, "http://127.0.0.1:9"), kind, 300)
    stored = {record["audit.record.id"] for record in spooled(tmp_path / "spool")}
    assert len(ids) >= 300
    assert not set(ids) - stored


def test_next_start_drains_and_closes_what_a_killed_process_left(tmp_path: Path, receiver: Receiver) -> None:
    """The spool of a killed process is sent by the next one and its chain is closed as abandoned."""
    ids = write_and_kill(environment(tmp_path, "http://127.0.0.1:9"), "audit.ml.prediction", 200)
    env = environment(tmp_path, receiver.endpoint)
    settings = Settings.from_env(env)
    drained = SpoolBackend(settings).adopt(RecordBuilder({"service.name": "next"}))
    assert drained == 1
    assert not layout.streams(tmp_path / "spool")
    records = [json.loads(record.body.string_value) for record in receiver.taken]
    assert not set(ids) - {record["audit.record.id"] for record in records}
    assert [record["audit.sequence.number"] for record in records] == list(range(1, len(records) + 1))
    assert records[-1]["audit.kind"] == "audit.stream.abandoned"
    assert records[-1]["audit.checkpoint.sequence"] == len(records) - 1


def test_a_crash_between_sending_and_acknowledging_repeats_records_unchanged(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Records that were sent but not acknowledged before a kill are sent again, byte for byte."""
    receiver.script = lambda records, headers: (503, {}, b"")
    ids = write_and_kill(
        environment(tmp_path, receiver.endpoint),
        "audit.ml.prediction",
        200,
        before_kill=lambda: receiver.wait_for(lambda r: bool(r.requests)),
    )
    seen = {
        record.body.string_value
        for request in receiver.requests
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    }
    receiver.script = lambda records, headers: TAKEN
    settings = Settings.from_env(environment(tmp_path, receiver.endpoint))
    assert SpoolBackend(settings).adopt(RecordBuilder({"service.name": "next"})) == 1
    taken = {record.body.string_value for record in receiver.taken}
    assert seen <= taken
    assert len(receiver.taken) == len(taken) >= len(ids)
