"""The routes of common model servers, with the model that answered inside: MLflow's own server, KServe's protocols."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient

from mlaudit.testing import AuditLog

Hooked = Callable[..., AbstractContextManager[AuditLog]]
PREDICTION = "audit.ml.prediction"
ROWS = [[0.0, 1.0], [1.0, 0.0]]


def trained() -> LogisticRegression:
    """A small model."""
    return LogisticRegression().fit(ROWS, [0, 1])


def predictions(log: AuditLog) -> list[dict[str, Any]]:
    """The records of predictions."""
    return log.of(PREDICTION)


def test_mlflows_scoring_server_leaves_one_record_for_each_request(hooked: Hooked, tmp_path: Path) -> None:
    """The real server with a model that ``mlflow.sklearn`` saved: what answered, digests, and no probes."""
    mlflow = pytest.importorskip("mlflow")
    scoring = pytest.importorskip("mlflow.pyfunc.scoring_server")
    if not hasattr(scoring, "_async_catch_mlflow_exception"):
        pytest.skip("this MLflow serves with Flask")
    mlflow.sklearn.save_model(trained(), tmp_path / "model", serialization_format="cloudpickle")
    with hooked("starlette", "sklearn") as log:
        client = TestClient(scoring.init(mlflow.pyfunc.load_model(str(tmp_path / "model"))))
        assert client.get("/ping").status_code == client.get("/version").status_code == 200
        answer = client.post("/invocations", json={"inputs": ROWS})
        assert answer.json() == {"predictions": [0, 1]}
        refused = client.post("/invocations", content=b"secret data", headers={"Content-Type": "text/x"})
        assert refused.status_code == 415
        assert "audit.api.request" not in log.kinds()
        assert "secret data" not in str(log.records)
        first, second = predictions(log)
    assert (first["http.route"], first["event.outcome"]) == ("/invocations", "success")
    assert first["ml.model.class"].endswith("LogisticRegression")
    assert (first["ml.prediction.rows"], first["ml.prediction.features"]) == (2, 2)
    assert first["http.response.body.bytes"] == len(answer.content)
    assert (second["event.outcome"], second["http.response.status_code"]) == ("failure", 415)


def kserve() -> FastAPI:
    """A server that speaks both versions of KServe's protocol."""
    app = FastAPI()
    model = trained()

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    def infer(name: str, body: dict[str, Any], version: str = "") -> Any:
        rows = body["inputs"][0]["data"]
        found = model.predict(rows).tolist()
        return {"model_name": name, "model_version": version, "outputs": [{"data": found}]}

    @app.post("/v1/models/{name}:predict")
    def predict(name: str, body: dict[str, Any]) -> Any:
        return {"predictions": model.predict(body["instances"]).tolist()}

    @app.get("/v2/models/{name}/ready")
    def ready(name: str) -> Any:
        return {"name": name, "ready": True}

    @app.get("/v2/models/{name}")
    def metadata(name: str) -> Any:
        return {"name": name}

    return app


@pytest.mark.parametrize(
    ("path", "body", "target"),
    [
        ("/v2/models/credit/infer", {"inputs": [{"data": ROWS}]}, "credit"),
        ("/v2/models/credit/versions/3/infer", {"inputs": [{"data": ROWS}]}, "credit@3"),
        ("/v1/models/credit:predict", {"instances": ROWS}, "credit"),
    ],
)
def test_kserves_protocols_name_the_model(
    hooked: Hooked, path: str, body: dict[str, Any], target: str
) -> None:
    """Name and version from the path, class and shape from the model that answered."""
    with hooked("starlette", "sklearn") as log:
        client = TestClient(kserve())
        assert client.post(path, json=body).status_code == 200
        assert client.get("/v2/models/credit/ready").status_code == 200
        (record,) = predictions(log)
        assert "audit.api.request" not in log.kinds()
    assert record["audit.target.id"] == target
    assert record["ml.model.name"] == "credit"
    assert record.get("ml.model.version", "") == target.partition("@")[2]
    assert record["ml.model.class"].endswith("LogisticRegression")
    assert record["ml.prediction.rows"] == 2


def test_what_a_model_server_tells_about_a_model_is_an_ordinary_request(hooked: Hooked) -> None:
    """Metadata is no prediction."""
    with hooked("starlette", "sklearn") as log:
        assert TestClient(kserve()).get("/v2/models/credit").json() == {"name": "credit"}
        assert len(log.of("audit.api.request")) == 1
        assert not predictions(log)


def test_a_rule_can_ask_for_the_model_of_the_path(hooked: Hooked) -> None:
    """A policy that says nothing of one model records the others."""
    policy = (
        "version: 1\n"
        "revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]\n"
        "rules:\n"
        "  - {name: demo, match: {model: demo, kind: audit.ml.prediction}, level: none}\n"
        "  - {name: rest, level: metadata}\n"
    )
    with hooked("starlette", policy=policy) as log:
        client = TestClient(kserve())
        for name in ("demo", "credit"):
            client.post(f"/v2/models/{name}/infer", json={"inputs": [{"data": ROWS}]})
        (record,) = predictions(log)
    assert record["ml.model.name"] == "credit"
