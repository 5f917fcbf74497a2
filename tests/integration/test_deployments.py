"""Models deployed by services behind real servers: told once, whatever number of workers, and ended somehow."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.dummy import DummyClassifier
from tests.integration.served import environment, of, records, request, started
from tests.integration.test_asgi_servers import GUNICORN, LISTENING, UVICORN

STARTED = "audit.ml.deployment.started"
REPLACED = "audit.ml.deployment.replaced"
ENDED = "audit.ml.deployment.ended"
SERVICE = """
import gc, joblib
from fastapi import FastAPI

app = FastAPI()
models = {"credit": joblib.load("credit.joblib")}

@app.get("/predict")
def predict():
    return {"answer": int(models["credit"].predict([[0.0]])[0])}

@app.get("/swap")
def swap():
    models["credit"] = joblib.load("next/credit.joblib")
    return {}

@app.get("/unload")
def unload():
    models.clear()
    gc.collect()
    return {}
"""
JOB = "import joblib; print(joblib.load('credit.joblib').predict([[0.0]]))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a service, its model, and the model's next version."""
    (tmp_path / "app.py").write_text(SERVICE)
    (tmp_path / "next").mkdir()
    joblib.dump(
        DummyClassifier(strategy="constant", constant=0).fit([[0.0]], [0]), tmp_path / "credit.joblib"
    )
    joblib.dump(
        DummyClassifier(strategy="constant", constant=1).fit([[0.0]], [1]),
        tmp_path / "next" / "credit.joblib",
    )
    return tmp_path


def deployments(state: Path) -> list[dict[str, Any]]:
    """The records of deployments, in time's order."""
    found = [record for record in records(state) if record["audit.kind"].startswith("audit.ml.deployment.")]
    return sorted(found, key=lambda record: str(record["@timestamp"]))


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(UVICORN, id="uvicorn"),
        pytest.param([*GUNICORN, "-w", "3"], id="gunicorn"),
        pytest.param([*GUNICORN, "-w", "2", "--preload"], id="gunicorn-preload"),
    ],
)
def test_service_deploys_once_and_ends_with_its_last_process(folder: Path, command: list[str]) -> None:
    """One start, whatever number of workers load the model, and one end when the last of them stops."""
    state = folder / "state"
    with started(command, folder, environment(state)) as server:
        port = int(server.wait_for(LISTENING)[1])
        server.wait_for("Application startup complete")
        for _ in range(20):
            assert request(port, path="/predict")[0] == 200
        server.stop()
    found = deployments(state)
    assert [record["audit.kind"] for record in found] == [STARTED, ENDED], server.output
    assert {record["ml.deployment.id"] for record in found} == {"served/credit"}
    assert found[0]["ml.model.digest"] == found[1]["ml.model.digest"]
    assert found[1]["event.reason"] == "the service stopped"
    assert not list((state / "services").glob("*.deployments.processes/*"))


def test_swap_and_unload_while_serving(folder: Path) -> None:
    """Another file under the name replaces; an object that is gone ends, without anybody waiting for the end."""
    state = folder / "state"
    with started(UVICORN, folder, environment(state)) as server:
        port = int(server.wait_for(LISTENING)[1])
        request(port, path="/swap")
        assert b"1" in request(port, path="/predict")[1]
        request(port, path="/unload")
        server.stop()
    found = deployments(state)
    assert [record["audit.kind"] for record in found] == [STARTED, REPLACED, ENDED]
    assert found[1]["ml.model.previous.digest"] == found[0]["ml.model.digest"]
    assert found[1]["ml.model.digest"] == found[2]["ml.model.digest"] != found[0]["ml.model.digest"]
    assert found[2]["event.reason"] == "the model is no longer in memory"


def test_killed_service_is_missed_by_its_next_start(folder: Path) -> None:
    """What a killed service had is ended by the next start, which then tells what it has."""
    state = folder / "state"
    for number in (signal.SIGKILL, signal.SIGTERM):
        with started(UVICORN, folder, environment(state)) as server:
            server.wait_for("Application startup complete")
            server.stop(number)
    found = deployments(state)
    assert [record["audit.kind"] for record in found] == [STARTED, ENDED, STARTED, ENDED]
    assert "without saying so" in found[1]["event.reason"]
    assert of("audit.ml.prediction", records(state)) == []


def test_job_deploys_nothing(folder: Path) -> None:
    """A job that loads the model and asks it deploys none."""
    state = folder / "state"
    with started([sys.executable, "-c", JOB], folder, environment(state)) as job:
        assert job.popen.wait(60) == 0
    assert deployments(state) == []
    assert len(of("audit.ml.model.loaded", records(state))) == 1
