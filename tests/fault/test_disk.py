"""A disk that is full, read-only or used up: what the policy says happens, is said, and is over when the disk is."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.served import Process, environment, started
from tests.unit.deliver.receiver import TAKEN, Receiver

from mlaudit.deliver.spool import layout

SERVICE = """
from fastapi import FastAPI
from sklearn.linear_model import LinearRegression

app = FastAPI()
model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])

@app.get("/healthz")
async def health():
    return {}

@app.post("/predict")
def predict(rows: list[float]):
    return model.predict([rows]).tolist()
"""

TRAINING = """
import sys
from sklearn.linear_model import LinearRegression
from mlaudit.errors import AuditRefusedError

for line in sys.stdin:
    model = LinearRegression()
    try:
        model.fit([[0.0], [1.0]], [0.0, 2.0])
        print("trained", hasattr(model, "coef_"), flush=True)
    except AuditRefusedError:
        print("refused", hasattr(model, "coef_"), flush=True)
"""

POLICY = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: a test, sections: [4]}]
routes:
  - {methods: [POST], path: /predict, kind: audit.ml.prediction}
  - {methods: [GET], path: /healthz, kind: none}
rules:
  - {name: predictions, match: {kind: [audit.ml.prediction]}, level: metadata, on_failure: %s}
  - {name: training, match: {kind: [audit.ml.training.started]}, level: metadata, on_failure: %s}
  - {name: rest, match: {}, level: metadata}
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill_up(disk: Path) -> Path:
    """Uses up the last byte of a file system; the file that does it."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def settings(
    tmp_path: Path, spool: Path, receiver: Receiver, on_failure: str, training: str = "continue", **more: str
) -> dict[str, str]:
    """The environment of an audited process whose spool is on the small disk."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY % (on_failure, training))
    return environment(
        tmp_path / "state",
        MLAUDIT_SPOOL_DIR=str(spool),
        MLAUDIT_POLICY=str(policy),
        MLAUDIT_ENDPOINT=receiver.endpoint,
        MLAUDIT_SHUTDOWN_SECONDS="10",
        **more,
    )


@contextlib.contextmanager
def service(tmp_path: Path, env: dict[str, str]) -> Iterator[Callable[[], int]]:
    """The service under uvicorn; yields what asks it for a prediction and returns the status."""
    (tmp_path / "service.py").write_text(SERVICE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port), "--log-level", "warning"]
    with started(command, tmp_path, env) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answered(f"{url}/healthz") == 200, process)
        yield lambda: answered(f"{url}/predict", b"[1.0]")
        assert process.stop() in (0, -15), process.output


def answered(url: str, body: bytes | None = None) -> int:
    """The status of an answer, 0 when nobody listens."""
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_until(condition: Callable[[], bool], process: Process | None = None, seconds: float = 40.0) -> None:
    """Returns when ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, process.output if process else "it did not come to that"
        time.sleep(0.05)


def failures(receiver: Receiver) -> dict[str, int]:
    """What the trail says was not recorded: counts by reason."""
    counts: dict[str, int] = {}
    for record in arrived(receiver, "audit.pipeline.failure"):
        reason = record.get("audit.lost.reason", record["audit.failure.reason"])
        counts[reason] = counts.get(reason, 0) + record.get("audit.lost.count", 0)
    return counts


def arrived(receiver: Receiver, kind: str) -> list[dict[str, Any]]:
    """The records of a kind that arrived."""
    with receiver.changed:
        taken = [record for record in receiver.taken if record.event_name == kind]
    return [json.loads(record.body.string_value) for record in taken]


def assert_whole(receiver: Receiver) -> None:
    """What arrived is one chain without a gap per stream."""
    streams: dict[str, list[int]] = {}
    for record in receiver.taken:
        body = json.loads(record.body.string_value)
        streams.setdefault(body["audit.sequence.stream_id"], []).append(body["audit.sequence.number"])
    for sequences in streams.values():
        assert sorted(set(sequences)) == list(range(1, max(sequences) + 1))


def test_full_disk_refuses_predictions_until_there_is_room(
    tmp_path: Path, disk: Path, receiver: Receiver
) -> None:
    """With refuse, predictions get 503 while the disk is full, are answered again later, and the trail counts them."""
    with service(tmp_path, settings(tmp_path, disk / "spool", receiver, "refuse")) as predict:
        assert predict() == 200
        filler = fill_up(disk)
        statuses = [predict() for _ in range(40)]
        refused = statuses.count(503)
        assert set(statuses) <= {200, 503}
        assert statuses[-5:] == [503] * 5
        filler.unlink()
        wait_until(lambda: predict() == 200)
        wait_until(lambda: bool(failures(receiver)))
    assert failures(receiver) == {"refused audit.ml.prediction: DiskFullError": refused}
    assert len(arrived(receiver, "audit.ml.prediction")) == statuses.count(200) + 2
    assert_whole(receiver)


def test_full_disk_lets_predictions_go_on_and_counts_what_is_lost(
    tmp_path: Path, disk: Path, receiver: Receiver
) -> None:
    """With continue, every prediction is answered, and the trail says how many of them it lacks."""
    with service(tmp_path, settings(tmp_path, disk / "spool", receiver, "continue")) as predict:
        assert predict() == 200
        filler = fill_up(disk)
        assert [predict() for _ in range(40)] == [200] * 40
        filler.unlink()
        wait_until(lambda: bool(failures(receiver)))
    lost = failures(receiver)["audit.ml.prediction: DiskFullError"]
    assert 0 < lost <= 40
    assert len(arrived(receiver, "audit.ml.prediction")) == 41 - lost
    assert_whole(receiver)


def test_service_that_starts_on_a_full_disk_recovers(tmp_path: Path, disk: Path, receiver: Receiver) -> None:
    """A service whose spool cannot even be made refuses, and is audited as soon as it can be."""
    filler = fill_up(disk)
    with service(tmp_path, settings(tmp_path, disk / "spool", receiver, "refuse")) as predict:
        assert predict() == 503
        filler.unlink()
        wait_until(lambda: predict() == 200)
        wait_until(lambda: bool(failures(receiver)))
    told = failures(receiver)
    assert (
        sum(count for reason, count in told.items() if reason.startswith("refused audit.ml.prediction")) >= 1
    )
    assert_whole(receiver)


def test_read_only_spool_refuses_until_it_is_writable(tmp_path: Path, disk: Path, receiver: Receiver) -> None:
    """A spool on a disk that is mounted read-only is treated as one that is full."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with service(tmp_path, settings(tmp_path, disk / "spool", receiver, "refuse")) as predict:
        assert [predict() for _ in range(3)] == [503] * 3
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        wait_until(lambda: predict() == 200)
        wait_until(lambda: bool(failures(receiver)))
    assert any(reason.startswith("refused audit.ml.prediction") for reason in failures(receiver))


def test_bound_of_the_spool_refuses_until_records_are_taken(tmp_path: Path, receiver: Receiver) -> None:
    """At MLAUDIT_SPOOL_MAX_BYTES predictions get 503; when the receiver takes records they are answered again."""
    receiver.script = lambda records, headers: (503, {"retry-after": "0"}, b"")
    env = settings(tmp_path, tmp_path / "spool", receiver, "refuse", MLAUDIT_SPOOL_MAX_BYTES=str(1 << 16))
    with service(tmp_path, env) as predict:
        statuses: list[int] = []
        while statuses[-3:] != [503] * 3 and len(statuses) < 200:
            statuses.append(predict())
        assert statuses[-3:] == [503] * 3
        assert (
            sum(p.stat().st_size for f in layout.streams(tmp_path / "spool") for p in layout.segments(f))
            <= 1 << 16
        )
        receiver.script = lambda records, headers: TAKEN
        wait_until(lambda: predict() == 200)
        wait_until(lambda: bool(failures(receiver)))
    assert failures(receiver)["refused audit.ml.prediction: SpoolFullError"] >= 3
    assert_whole(receiver)


def test_training_does_not_start_unrecorded(tmp_path: Path, disk: Path, receiver: Receiver) -> None:
    """With refuse and a full disk, fit raises before anything is fitted; with room it trains; the trail says both."""
    (tmp_path / "training.py").write_text(TRAINING)
    filler = fill_up(disk)
    env = settings(tmp_path, disk / "spool", receiver, "continue", training="refuse")
    process = subprocess.Popen(
        [sys.executable, "training.py"],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def train() -> str:
        process.stdin.write("train\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return process.stdout.readline().strip()  # type: ignore[union-attr]

    try:
        assert train() == "refused False"
        filler.unlink()
        wait_until(lambda: train() == "trained True")
        process.stdin.close()
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert any(reason.startswith("refused audit.ml.training.started") for reason in failures(receiver))
    assert len(arrived(receiver, "audit.ml.training.completed")) == 1
    assert_whole(receiver)


def test_delivered_records_make_room_on_a_full_disk(tmp_path: Path, disk: Path, receiver: Receiver) -> None:
    """What is retained goes before anything is refused: on a disk full of delivered records the service goes on."""
    env = settings(tmp_path, disk / "spool", receiver, "refuse", MLAUDIT_SPOOL_MAX_BYTES=str(1 << 19))
    with service(tmp_path, env) as predict:
        statuses = [predict() for _ in range(100)]
        wait_until(lambda: len(arrived(receiver, "audit.ml.prediction")) == 100)
        assert layout.retained_streams(disk / "spool")
        fill_up(disk)
        statuses += [predict() for _ in range(30)]
        assert statuses == [200] * 130
        wait_until(lambda: len(arrived(receiver, "audit.ml.prediction")) == 130)
    assert failures(receiver) == {}
