"""Settings of a service: what changed since the last start, and what the running program sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlaudit.capture.libraries import pydantic_settings as module
from mlaudit.capture.libraries.pydantic_settings import PydanticSettingsIntegration
from mlaudit.capture.process import config_loaded
from mlaudit.catalog.names import ML_CONFIG_CHANGED
from mlaudit.deliver.spool.files import read_frames
from mlaudit.errors import SpoolUnavailableError
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlaudit.testing import AuditLog


class Store(BaseModel):
    """A part of the settings."""

    host: str = "localhost"
    password: SecretStr = SecretStr("hunter2-default")


class ScoringSettings(BaseSettings):
    """As services have them."""

    model_config = SettingsConfigDict(
        env_prefix="SCORING_", env_nested_delimiter="__", validate_assignment=True
    )

    threshold: float = Field(0.5, ge=0, le=1)
    features: list[str] = ["age"]
    api_key: str = "hunter2-key"
    url: str = "postgres://scoring:hunter2-url@db/loans"
    token: SecretStr = SecretStr("hunter2-token")
    store: Store = Store()


class FrozenSettings(BaseSettings):
    """Nobody may set these."""

    model_config = SettingsConfigDict(frozen=True)
    limit: int = 1


NAME = f"{__name__}.ScoringSettings"


@pytest.fixture
def start(hooked: Any, tmp_path: Path) -> Any:
    """A start of the service, whose state folder is that of the start before."""

    @contextmanager
    def started() -> Iterator[AuditLog]:
        config_loaded._seen.clear()  # another process
        with hooked("pydantic-settings", env={"MLAUDIT_STATE_DIR": str(tmp_path)}) as log:
            yield log

    return started


def test_what_changed_since_the_last_start(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start records which fields changed and their new values; of the old ones only digests were kept."""
    monkeypatch.setenv("MLAUDIT_CHANGE_TICKET", "ignored: read from the settings of the pipeline")
    with start() as log:
        ScoringSettings()
        ScoringSettings()
    assert log.of(ML_CONFIG_CHANGED) == []
    monkeypatch.setenv("SCORING_THRESHOLD", "0.7")
    monkeypatch.setenv("SCORING_STORE__HOST", "db-2")
    with start() as log:
        ScoringSettings()
        ScoringSettings()
    (record,) = log.of(ML_CONFIG_CHANGED)
    assert record["ml.config.source"] == "environment"
    assert record["ml.config.path"] == record["audit.target.id"] == NAME
    assert record["ml.config.keys"] == ["store.host", "threshold"]
    assert record["ml.config.changes"] == {
        "threshold": "(not seen) -> 0.7",
        "store.host": "(not seen) -> db-2",
    }
    assert record["ml.config.before.digest"] != record["ml.config.after.digest"]
    assert record["event.reason"] == "it is not what was loaded last"
    assert record["audit.guarantee"] == "durable"
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert NAME in kept
    assert "hunter2" not in kept
    assert "db-2" not in kept


def test_what_changed_in_this_process(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that are read again show their values before and after, without secrets of any kind."""
    with start() as log:
        ScoringSettings()
        monkeypatch.setenv("SCORING_THRESHOLD", "0.7")
        monkeypatch.setenv("SCORING_API_KEY", "hunter2-new-key")
        monkeypatch.setenv("SCORING_TOKEN", "hunter2-new-token")
        monkeypatch.setenv("SCORING_URL", "postgres://scoring:hunter2-new-url@db/loans")
        monkeypatch.setenv("SCORING_STORE__PASSWORD", "hunter2-new-password")
        ScoringSettings()
    (record,) = log.of(ML_CONFIG_CHANGED)
    assert record["ml.config.keys"] == ["api_key", "store.password", "threshold", "token", "url"]
    assert record["ml.config.changes"]["threshold"] == "0.5 -> 0.7"
    assert "hunter2" not in json.dumps(log.records)


def test_ticket_and_approver(hooked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that says its ticket and approver has them in the record."""
    env = {"MLAUDIT_CHANGE_TICKET": "CHG-2041", "MLAUDIT_CHANGE_APPROVER": "bob"}
    with hooked("pydantic-settings", env=env) as log:
        ScoringSettings()
        monkeypatch.setenv("SCORING_THRESHOLD", "0.9")
        ScoringSettings()
    (record,) = log.of(ML_CONFIG_CHANGED)
    assert record["ml.change.ticket"] == "CHG-2041"
    assert record["ml.change.approver"].startswith("hmac:")
    assert record["ml.change.in_window"] is True


def test_what_the_program_passes_is_no_configuration(start: Any) -> None:
    """Values that the program itself gives do not count as changed settings."""
    with start() as log:
        ScoringSettings()
        ScoringSettings(threshold=0.9)
        ScoringSettings()
    assert [record["ml.config.keys"] for record in log.of(ML_CONFIG_CHANGED)] == []


def test_a_field_that_is_set(start: Any) -> None:
    """Setting a field at run time is a change from one value to another; setting it to the same is none."""
    with start() as log:
        settings = ScoringSettings()
        settings.threshold = 0.7
        settings.threshold = 0.7
        settings.token = SecretStr("hunter2-set")
        settings.store = Store(host="db-3")
    changes = [record["ml.config.changes"] for record in log.of(ML_CONFIG_CHANGED)]
    assert changes[0] == {"threshold": "0.5 -> 0.7"}
    assert changes[2] == {"store.host": "localhost -> db-3"}
    assert [record["event.reason"] for record in log.of(ML_CONFIG_CHANGED)] == [
        "set by the running program"
    ] * 3
    assert "hunter2" not in json.dumps(log.records)
    assert settings.threshold == 0.7


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [(ScoringSettings, "threshold", 7.0), (FrozenSettings, "limit", 2)],
    ids=["invalid", "frozen"],
)
def test_a_field_that_may_not_be_set(start: Any, settings: Any, name: str, value: Any) -> None:
    """An attempt that pydantic refuses is a failure, and refused as ever."""
    with start() as log:
        made = settings()
        with pytest.raises(ValidationError):
            setattr(made, name, value)
    (record,) = log.of(ML_CONFIG_CHANGED)
    assert (record["event.outcome"], record["error.type"]) == ("failure", "ValidationError")
    assert record["ml.config.keys"] == [name]


def test_settings_alone_start_no_trail(hooked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that are made before there is a trail wait for it, and start none."""
    integration = PydanticSettingsIntegration()
    before = current.install(None)
    monkeypatch.setattr(module, "_waiting", [])
    monkeypatch.setenv("MLAUDIT_ENABLED", "true")
    integration.instrument()
    try:
        ScoringSettings()
        assert current.running() is None
        assert len(module._waiting) == 1
        with hooked() as log:
            module._catch_up(log.pipeline)
            assert module._waiting == []
            monkeypatch.setenv("SCORING_THRESHOLD", "0.7")
            ScoringSettings()
        assert log.of(ML_CONFIG_CHANGED)[0]["ml.config.changes"] == {"threshold": "0.5 -> 0.7"}
    finally:
        integration.uninstrument()
        current.install(before)


PROGRAM = """
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    threshold: float = 0.5

Settings()
import mlaudit
mlaudit.record("audit.app.a.b")
"""


def test_a_program_is_audited_by_the_variable_alone(tmp_path: Path) -> None:
    """Settings that a real program makes first of all are compared once its trail begins."""
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLAUDIT_")}
    audited = {
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_STATE_DIR": str(tmp_path),
        "MLAUDIT_SHUTDOWN_SECONDS": "0",
        "MLAUDIT_OTEL": "off",
        "MLAUDIT_ENDPOINT": "http://127.0.0.1:9/v1/logs",
    }
    for threshold in ("0.5", "0.8"):
        command = [sys.executable, "-c", PROGRAM]
        subprocess.run(
            command,
            env={**inherited, **audited, "THRESHOLD": threshold},
            timeout=120,
            check=True,
            capture_output=True,
        )
    frames = [frame for segment in sorted(tmp_path.rglob("*.seg")) for frame in read_frames(segment)[0]]
    records = [json.loads(LogRecord.FromString(frame.payload).body.string_value) for frame in frames]
    (record,) = [record for record in records if record["audit.kind"] == ML_CONFIG_CHANGED]
    assert record["ml.config.path"] == "__main__.Settings"
    assert record["ml.config.changes"] == {"threshold": "(not seen) -> 0.8"}


def test_broken_hooks_reach_nobody(hooked: Any, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every hook broken settings are made and set as ever, and the trail says what failed."""

    def raises(*_: Any) -> Any:
        raise SpoolUnavailableError("broken on purpose")

    monkeypatch.setattr(module, "compare", raises)
    with hooked("pydantic-settings") as log:
        settings = ScoringSettings()
        settings.threshold = 0.25
        assert settings.threshold == 0.25
        with pytest.raises(ValidationError):
            settings.threshold = 7.0
    assert any(record.get("audit.component") == module.COMPONENT for record in log.records)


def test_the_hooks_are_taken_out_again(hooked: Any) -> None:
    """Afterwards the class is what it was."""
    with hooked("pydantic-settings"):
        assert "__setattr__" in vars(BaseSettings)
    assert "__setattr__" not in vars(BaseSettings)
    assert not hasattr(BaseSettings.__init__, module._MARK)
