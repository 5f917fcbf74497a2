from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.deliver.receiver import Receiver
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.deliver.spool import layout
from mlaudit.errors import SpoolError
from mlaudit.event import AuditEvent
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.settings import Settings


@pytest.fixture
def left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool with one stream of a process that was killed, and the environment that names it."""
    from mlaudit.pipeline.backend import SpoolBackend

    for name in [name for name in os.environ if name.startswith(("MLAUDIT_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLAUDIT_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MLAUDIT_ENDPOINT", "http://127.0.0.1:9")
    child = os.fork()
    if child == 0:
        settings = Settings.from_env()
        Pipeline(settings, SpoolBackend(settings)).emit(AuditEvent("audit.ml.prediction"))
        os._exit(9)
    os.waitpid(child, 0)
    return tmp_path / "spool"


def test_status_is_that_of_mlaudit_status(left_behind: Path) -> None:
    """Both names show the same: the stream of a dead process as such, with exit code 1."""
    result = CliRunner().invoke(app, ["spool", "status"], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    (stream,) = layout.streams(left_behind)
    assert stream.name in result.output
    assert "its process is gone and the stream is not adopted; 3 records wait" in result.output
    assert CliRunner().invoke(app, ["status"], env={"COLUMNS": "200"}).exit_code == 1


def test_drain_sends_and_closes_what_was_left(left_behind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draining delivers every record, ends the chain as abandoned and empties the spool."""
    receiver = Receiver()
    monkeypatch.setenv("MLAUDIT_ENDPOINT", receiver.endpoint)
    try:
        result = CliRunner().invoke(app, ["spool", "drain", "--seconds", "30"])
    finally:
        receiver.close()
    assert result.exit_code == 0, result.output
    assert "drained 1 of 1" in result.output
    names = [record.event_name for record in receiver.taken]
    assert names[-1] == "audit.stream.abandoned"
    assert "audit.ml.prediction" in names
    assert not layout.streams(left_behind)
    assert CliRunner().invoke(app, ["spool", "status"]).exit_code == 0


def test_drain_without_a_receiver_keeps_everything(left_behind: Path) -> None:
    """When nobody takes the records they stay, and the exit code says so."""
    result = CliRunner().invoke(app, ["spool", "drain", "--seconds", "0.3"])
    assert result.exit_code == 1
    assert len(layout.streams(left_behind)) == 1


def test_absent_spool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool folder that is not there is an error that names it and the setting."""
    monkeypatch.setenv("MLAUDIT_SPOOL_DIR", str(tmp_path / "absent"))
    result = CliRunner().invoke(app, ["spool", "drain"])
    assert isinstance(result.exception, SpoolError)
    assert "MLAUDIT_SPOOL_DIR" in str(result.exception)
