"""Hydra's jobs: runs with their composed configuration, and what changed in it since the last one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from sklearn.linear_model import LogisticRegression

import mlaudit
from mlaudit.capture.process import config_loaded
from mlaudit.catalog.names import ML_CONFIG_CHANGED
from mlaudit.deliver.spool.files import read_frames
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STARTED, COMPLETED = "audit.ml.training.started", "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
CONFIG = """
model: {C: 1.0, solver: lbfgs}
database: {password: hunter2-of-the-config, host: "${oc.env:HUNTER}"}
seed: 17
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a task as ``hydra.main`` does, with a command line."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv("HUNTER", "hunter2-of-the-environment")

    def run(task: Callable[[Any], Any], *overrides: str) -> Any:
        GlobalHydra.instance().clear()
        place = tmp_path / "outputs"
        own = [
            f"hydra.run.dir={place}",
            f"hydra.sweep.dir={place}",
            "hydra.job.name=train",
            "hydra/job_logging=none",
        ]
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides, *own])
        return hydra.main(version_base="1.2", config_path=str(tmp_path), config_name="config")(task)()

    return run


@pytest.fixture
def start(hooked: Any, tmp_path: Path) -> Any:
    """A start of the service, whose state folder is that of the start before."""

    @contextmanager
    def started(*more: str) -> Iterator[Any]:
        config_loaded._seen.clear()  # another process
        with hooked("hydra", *more, env={"MLAUDIT_STATE_DIR": str(tmp_path / "state")}) as log:
            yield log

    return started


def fit(config: Any) -> None:
    """A task that trains."""
    rows = np.arange(20.0).reshape(10, 2)
    LogisticRegression(C=config.model.C).fit(rows, [0, 1] * 5)


def test_a_job_is_a_run_with_its_configuration(start: Any, job: Any) -> None:
    """The composed values, what was overridden and a digest; what is trained inside is a child; no secrets."""
    with start("sklearn") as log:
        job(fit, "model.C=0.5", "database.password=hunter2-of-the-command-line")
    assert log.kinds() == [STARTED, STARTED, COMPLETED, COMPLETED]
    run, child = log.of(STARTED)
    parameters = run["ml.training.parameters"]
    assert (parameters["model.C"], parameters["model.solver"], parameters["seed"]) == ("0.5", "lbfgs", "17")
    assert parameters["hydra.config"] == "train/config"
    assert parameters["hydra.overrides"].startswith("model.C=0.5, database.password=")
    assert len(parameters["hydra.digest"]) == 64
    assert (run["ml.model.name"], run["audit.target.id"]) == ("train", "train")
    assert child["ml.training.parent_run_id"] == run["ml.training.run_id"]
    assert "hunter2" not in json.dumps(log.records)


def test_what_changed_since_the_last_run(start: Any, job: Any, tmp_path: Path) -> None:
    """The next run records which keys are not as they were; the same configuration is not recorded."""
    with start() as log:
        job(lambda _: None)
        job(lambda _: None)
    assert log.of(ML_CONFIG_CHANGED) == []
    (tmp_path / "config.yaml").write_text(
        CONFIG.replace("C: 1.0", "C: 2.0").replace("of-the-config", "changed")
    )
    with start() as log:
        job(lambda _: None)
        job(lambda _: None, "seed=18")
    first, second = log.of(ML_CONFIG_CHANGED)
    assert (first["ml.config.source"], first["ml.config.path"]) == ("hydra", "train/config")
    assert first["ml.config.keys"] == ["database.password", "model.C"]
    assert first["ml.config.changes"]["model.C"] == "(not seen) -> 2.0"
    assert second["ml.config.changes"] == {"seed": "17 -> 18"}
    assert "hunter2" not in json.dumps(log.records)
    assert "hunter2" not in "".join(path.read_text() for path in (tmp_path / "state").rglob("*.json"))


def test_the_jobs_of_a_sweep_are_runs_and_no_changes(start: Any, job: Any) -> None:
    """Each job of a multirun has its own parameters; that they differ is what a sweep is for."""
    with start() as log:
        job(lambda _: None, "--multirun", "model.C=0.1,0.2")
    assert log.kinds() == [STARTED, COMPLETED, STARTED, COMPLETED]
    assert [record["ml.training.parameters"]["model.C"] for record in log.of(STARTED)] == ["0.1", "0.2"]


def test_a_job_that_fails(start: Any, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run ends as failed with the error's class, and Hydra raises as ever."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def task(_: Any) -> None:
        raise KeyError("loans")

    with start() as log, pytest.raises(KeyError):
        job(task)
    assert log.kinds() == [STARTED, FAILED]
    assert log.of(FAILED)[0]["error.type"] == "KeyError"


def test_compose_fills_the_run_under_way(start: Any, job: Any, tmp_path: Path) -> None:
    """Without ``hydra.main``, as in notebooks, a composed configuration is compared and joins the run around it."""
    GlobalHydra.instance().clear()
    with start() as log, hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        hydra.compose("config")
        with mlaudit.training_run("credit"):
            config = hydra.compose(config_name="config", overrides=["model.C=3"])
    assert config.model.C == 3
    assert log.of(COMPLETED)[0]["ml.training.parameters"]["model.C"] == "3"
    (record,) = log.of(ML_CONFIG_CHANGED)
    assert (record["ml.config.path"], record["ml.config.changes"]) == (
        "compose/config",
        {"model.C": "1.0 -> 3"},
    )


def test_a_job_that_cannot_be_recorded_does_not_run(
    hooked: Any, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a refusing policy, with nothing to write to, the task is not called."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    policy = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules: [{name: all, level: metadata, on_failure: refuse}]
"""
    ran: list[Any] = []
    with hooked("hydra", policy=policy) as log:
        log.fail(SpoolUnavailableError("full"))
        with pytest.raises(AuditRefusedError):
            job(ran.append)
        log.heal()
    assert ran == []


def test_broken_hooks_reach_nobody(start: Any, job: Any, broken: str, tmp_path: Path) -> None:
    """With every hook broken jobs run and configurations are composed as ever, and the trail says what failed."""
    ran: list[Any] = []
    with start() as log:
        job(ran.append)
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
            assert hydra.compose("config").seed == 17
    assert [config.seed for config in ran] == [17]
    assert any("capture.libraries.hydra" in str(record) for record in log.records)


PROGRAM = """
import hydra

@hydra.main(version_base="1.2", config_path=".", config_name="config")
def main(config):
    print(config.seed)

main()
"""


def test_a_program_is_audited_by_the_variable_alone(tmp_path: Path, job: Any) -> None:
    """A real program, started from its file: its run is in the spool."""
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    (tmp_path / "train.py").write_text(PROGRAM)
    state = tmp_path / "state"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLAUDIT_")}
    audited = {"MLAUDIT_ENABLED": "true", "MLAUDIT_STATE_DIR": str(state), "MLAUDIT_SHUTDOWN_SECONDS": "0"}
    done = subprocess.run(
        [sys.executable, "train.py", "seed=23"],
        cwd=tmp_path,
        env={**inherited, **audited, "MLAUDIT_OTEL": "off", "MLAUDIT_ENDPOINT": "http://127.0.0.1:9/v1/logs"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "23" in done.stdout.splitlines()
    frames = [frame for segment in sorted(state.rglob("*.seg")) for frame in read_frames(segment)[0]]
    records = [json.loads(LogRecord.FromString(frame.payload).body.string_value) for frame in frames]
    (run,) = [record for record in records if record["audit.kind"] == STARTED]
    assert run["ml.training.parameters"]["seed"] == "23"
