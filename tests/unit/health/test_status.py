from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.deliver.receiver import TAKEN, Receiver
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.deliver.spool import layout
from mlaudit.errors import SpoolFullError
from mlaudit.event import AuditEvent
from mlaudit.health.status import SpoolStatus, age, read_status, size
from mlaudit.pipeline import heartbeat
from mlaudit.pipeline.pipeline import Pipeline

Start = Callable[..., Pipeline]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status files are written at every beat."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.0)


def seen_when(spool: Path, condition: Callable[[SpoolStatus], bool], patience: float = 60.0) -> SpoolStatus:
    """The status once the condition holds for it."""
    deadline = time.monotonic() + 20
    while not condition(seen := read_status(spool, patience)):
        assert time.monotonic() < deadline, seen.to_dict()
        time.sleep(0.02)
    return seen


def run(tmp_path: Path, *arguments: str) -> Any:
    """``mlaudit status`` on the spool of the test."""
    return CliRunner().invoke(
        app, ["status", *arguments], env={"MLAUDIT_STATE_DIR": str(tmp_path), "COLUMNS": "200"}
    )


def test_running_service_is_shown_with_what_it_did(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """Service, process, records sealed and sent, the last acknowledgement and the signing key are all there."""
    running = start(receiver.endpoint, CHECKPOINT_SECONDS="0.1")
    running.emit(AuditEvent("audit.ml.prediction"))
    seen = seen_when(
        tmp_path / "spool",
        lambda s: s.streams[0].signed_sequence >= 3 and not s.streams[0].waiting,
    )
    (stream,) = seen.streams
    assert (stream.service, stream.pid, stream.state) == ("shop", os.getpid(), "alive")
    assert stream.stream == running.stream_id
    assert stream.sealed == stream.sent >= 4
    assert stream.signed_time
    assert stream.last_acknowledged
    assert stream.key_id == running.stream.last_signature["key_id"]  # type: ignore[union-attr]
    assert seen.ok
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert "shop" in result.output
    assert "fine" in result.output


def test_failing_sender_is_named_with_what_waits(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """Records that wait longer than the given time are exit code 1, with the receiver's last response."""
    receiver.script = lambda records, headers: (503, {}, b"")
    running = start(receiver.endpoint)
    running.emit(AuditEvent("audit.ml.prediction"))
    seen = seen_when(tmp_path / "spool", lambda s: bool(s.streams[0].failing_since), patience=0.0)
    (stream,) = seen.streams
    assert stream.waiting == 3
    assert stream.waiting_bytes > 1000
    assert 0 < stream.oldest_age < 60
    assert stream.last_failure == "HTTP 503"
    assert run(tmp_path).exit_code == 0  # not for so long yet
    result = run(tmp_path, "--patience", "0")
    assert result.exit_code == 1
    assert "3 records wait" in result.output
    assert "HTTP 503" in result.output
    receiver.script = lambda records, headers: TAKEN
    seen_when(tmp_path / "spool", lambda s: not s.streams[0].waiting and not s.streams[0].failing_since)


def test_sender_that_has_stopped_is_noticed(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """A process whose sending thread has stopped records without sending, and the status reports it."""
    running = start(receiver.endpoint)
    seen_when(tmp_path / "spool", lambda s: not s.streams[0].waiting and s.streams[0].described)
    assert running.stream is not None
    running.stream.delivery.sender.stop(time.monotonic() + 5)  # type: ignore[attr-defined]
    running.emit(AuditEvent("audit.ml.prediction"))
    seen_when(
        tmp_path / "spool", lambda s: any("its sender has stopped" in t for t in s.streams[0].attention)
    )


def test_losses_and_refusals_need_attention(
    start: Start, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be recorded stays in the status for as long as the process lives."""
    running = start(receiver.endpoint)
    assert running.stream is not None
    with monkeypatch.context() as full:

        def refuse(*_: object, **__: object) -> None:
            raise SpoolFullError("full")

        full.setattr(running.stream.delivery, "append", refuse)
        running.emit(AuditEvent("audit.ml.prediction"))
        running.refuse("audit.ml.training.started")
    seen = seen_when(tmp_path / "spool", lambda s: s.streams[0].lost_total == 1 and s.streams[0].refused == 1)
    assert seen.streams[0].lost == {"audit.ml.prediction: SpoolFullError": 1}
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "1 records were lost" in result.output
    assert "1 actions were refused" in result.output


def left_by_a_dead_process(start: Start, tmp_path: Path) -> Path:
    """The stream folder of a process that was killed with records unsent."""
    child = os.fork()
    if child == 0:
        start().emit(AuditEvent("audit.ml.prediction"))
        time.sleep(0.6)  # the tender looks in
        os._exit(9)
    os.waitpid(child, 0)
    (folder,) = layout.streams(tmp_path / "spool")
    return folder


def test_dead_stream_that_nobody_adopted_needs_attention(start: Start, tmp_path: Path) -> None:
    """A dead process leaves its status file, and its records wait for adoption."""
    folder = left_by_a_dead_process(start, tmp_path)
    (stream,) = read_status(tmp_path / "spool", 60).streams
    assert (stream.stream, stream.state, stream.service, stream.waiting) == (folder.name, "dead", "shop", 3)
    assert run(tmp_path).exit_code == 1


def test_adopted_stream_is_shown_as_being_drained(start: Start, tmp_path: Path) -> None:
    """While another process sends a dead one's records, the status names it."""
    folder = left_by_a_dead_process(start, tmp_path)
    running = start()
    seen = seen_when(
        tmp_path / "spool",
        lambda s: any(one.state == "draining" for one in s.streams),
    )
    (drained,) = [one for one in seen.streams if one.stream == folder.name]
    assert drained.adopted_by == running.stream_id


def test_quarantined_records_need_attention(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """Quarantined records are reported for as long as they exist."""
    running = start(receiver.endpoint)
    seen_when(tmp_path / "spool", lambda s: not s.streams[0].waiting)
    aside = layout.quarantine_folder(layout.stream_folder(tmp_path / "spool", running.stream_id))
    aside.mkdir()
    (aside / "00000000000000000003.otlp").write_bytes(b"x")
    (aside / "00000000000000000003.reason").write_bytes(b"HTTP 400")
    assert read_status(tmp_path / "spool", 60).streams[0].quarantined == 1
    assert "1 records are quarantined" in run(tmp_path).output


def test_what_was_set_aside_outlives_its_stream(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """A delivered stream with only quarantined records left is shown as such until they are removed."""
    running = start(receiver.endpoint)
    folder = layout.stream_folder(tmp_path / "spool", running.stream_id)
    aside = layout.quarantine_folder(folder)
    aside.mkdir()
    (aside / "00000000000000000003.otlp").write_bytes(b"x")
    assert running.close("done", 20)
    (stream,) = read_status(tmp_path / "spool", 60).streams
    assert (stream.state, stream.quarantined, stream.waiting) == ("delivered", 1, 0)
    assert run(tmp_path).exit_code == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"service": "sh',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b"[" * 20_000,
        b'{"service": 7, "pid": "x", "lost": [], "signed": 1, "refused": -1, "lost_total": 1e99}',
        b'{"pid": 99999999999999999999999999}',
    ],
)
def test_status_file_that_is_none_is_left_out(
    start: Start, receiver: Receiver, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torn or foreign status file is ignored; the state of the segments is still shown."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 3600.0)
    running = start(receiver.endpoint)
    running.emit(AuditEvent("audit.ml.prediction"))
    seen_when(tmp_path / "spool", lambda s: not s.streams[0].waiting and s.streams[0].described)
    layout.status_file(layout.stream_folder(tmp_path / "spool", running.stream_id)).write_bytes(content)
    (stream,) = read_status(tmp_path / "spool", 60).streams
    assert (stream.service, stream.pid, stream.sealed) == ("", 0, 3)
    assert run(tmp_path).exit_code == 0


def test_terminal_is_not_obeyed(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """Escape sequences and markup in a status file are printed as text."""
    running = start(receiver.endpoint)
    told = {
        "service": "\x1b[31mred\x1b]0;title\x07",
        "last_failure": "[red]x[/]\x1b[2J",
        "failing_since": "x",
    }
    path = layout.status_file(layout.stream_folder(tmp_path / "spool", running.stream_id))
    running._heartbeat.last()  # type: ignore[union-attr]
    path.write_text(json.dumps(told | {"lost_total": 1, "lost": {"\x1b[5m": 1}}))
    output = run(tmp_path, "--patience", "0").output
    assert "\x1b[31m" not in output
    assert "\x07" not in output
    assert "\x1b[2J" not in output
    assert "\\x1b[31mred" in output
    assert json.loads(run(tmp_path, "--json").output)["streams"][0]["service"] == told["service"]


def test_status_file_holds_no_secret_and_no_content(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """Neither a token, nor a header, nor anything of an event is in it; others cannot read it."""
    token = tmp_path / "token"
    token.write_text("s3cret-token")
    running = start(receiver.endpoint, TOKEN_FILE=str(token), HEADERS="x-key=s3cret-header")
    running.emit(AuditEvent("audit.ml.prediction", fields={"user.name": "s3cret-user"}))
    path = layout.status_file(layout.stream_folder(tmp_path / "spool", running.stream_id))
    seen_when(tmp_path / "spool", lambda s: bool(s.streams[0].last_acknowledged))
    assert "s3cret" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_is_left_when_all_was_sent(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """A stream that ended and was wholly sent takes its status file with it."""
    running = start(receiver.endpoint)
    folder = layout.stream_folder(tmp_path / "spool", running.stream_id)
    seen_when(tmp_path / "spool", lambda s: s.streams[0].described)
    assert running.close("done", 20)
    assert not folder.exists()
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "no streams" in result.output


def test_json_has_everything(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """The JSON output has the content of the table and the overall verdict."""
    start(receiver.endpoint)
    seen_when(tmp_path / "spool", lambda s: s.streams[0].described and not s.streams[0].waiting)
    answer = json.loads(run(tmp_path, "--json").output)
    assert answer["ok"] is True
    assert answer["streams"][0]["service"] == "shop"
    assert answer["free_bytes"] > 0


def test_absent_spool_cannot_be_looked_at(tmp_path: Path) -> None:
    """No spool folder is exit code 2, and the settings that name it are said; also as JSON."""
    result = run(tmp_path / "absent")
    assert result.exit_code == 2
    assert "MLAUDIT_STATE_DIR" in result.output
    assert json.loads(run(tmp_path / "absent", "--json").stdout)["ok"] is False


def test_silent_process_is_noticed(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """A living process that has not written its status for long is stopped or hung."""
    running = start(receiver.endpoint)
    path = layout.status_file(layout.stream_folder(tmp_path / "spool", running.stream_id))
    seen_when(tmp_path / "spool", lambda s: s.streams[0].described)
    running._heartbeat.last()  # type: ignore[union-attr]
    past = time.time() - 600
    os.utime(path, (past, past))
    assert any(
        "no status from its process since 10 min" in text
        for text in read_status(tmp_path / "spool", 60).streams[0].attention
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119.4, "119 s"), (600, "10 min"), (86400, "24 h"), (864000, "10 d")]
)
def test_ages_are_said_as_people_say_them(seconds: float, text: str) -> None:
    """Seconds, minutes, hours, days."""
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 20, "20 MiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_said_as_people_say_them(count: int, text: str) -> None:
    """Powers of 1024."""
    assert size(count) == text
