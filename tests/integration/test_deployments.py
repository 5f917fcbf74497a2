"""Models deployed by services behind real servers: recorded once for any number of workers, and always ended."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow
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
REGISTRY = """
import mlflow
from fastapi import FastAPI

app = FastAPI()
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model("models:/credit@champion")

@app.get("/predict")
def predict():
    return {"answer": int(model.predict([[0.0]])[0])}

@app.get("/reload")
def reload():
    global model
    model = mlflow.pyfunc.load_model("models:/credit@champion")
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
    """One start for any number of workers that load the model, and one end when the last of them stops."""
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
    """Another file under the same name is a replacement; an object that is freed ends its deployment at once."""
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
    """The next start ends the deployments of a killed service, and then records its own."""
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
    """A job that loads the model and predicts with it deploys none."""
    state = folder / "state"
    with started([sys.executable, "-c", JOB], folder, environment(state)) as job:
        assert job.popen.wait(60) == 0
    assert deployments(state) == []
    assert len(of("audit.ml.model.loaded", records(state))) == 1


def test_promotion_that_a_service_picks_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that follows an alias of MLflow's registry deploys one version, then the next, under its name."""
    state = folder / "state"
    (folder / "app.py").write_text(REGISTRY)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    client = mlflow.MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
    client.create_registered_model("credit")
    for constant in (0, 1):
        model = DummyClassifier(strategy="constant", constant=constant).fit([[0.0]], [constant])
        path = folder / f"model-{constant}"
        mlflow.sklearn.save_model(model, path, serialization_format="cloudpickle", pip_requirements=[])
        client.create_model_version("credit", str(path))
    client.set_registered_model_alias("credit", "champion", "1")
    env = environment(state, MLFLOW_DISABLE_TELEMETRY="true")
    with started(UVICORN, folder, env) as server:
        port = int(server.wait_for(LISTENING)[1])
        assert b"0" in request(port, path="/predict")[1]
        client.set_registered_model_alias("credit", "champion", "2")
        request(port, path="/reload")
        assert b"1" in request(port, path="/predict")[1]
        server.stop()
    found = deployments(state)
    assert [record["audit.kind"] for record in found] == [STARTED, REPLACED, ENDED], server.output
    assert [record["audit.target.id"] for record in found] == ["credit@1", "credit@2", "credit@2"]
    assert found[1]["ml.model.previous.version"] == "1"
    answers = of("audit.ml.prediction", records(state))
    assert [record["audit.target.id"] for record in answers] == ["credit@1", "credit@2"]
    assert all(record["http.route"] == "/predict" for record in answers)
    assert answers[1]["ml.model.digest"] == found[1]["ml.model.digest"]
