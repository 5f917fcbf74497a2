"""The lineage of a model that real programs trained, saved, served and queried, read from a real Elasticsearch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest
from elasticsearch import Elasticsearch
from tests.conftest import wait_for
from tests.integration.served import environment, request, started
from tests.namespace import Namespace
from typer.testing import CliRunner, Result

from mlaudit.cli import app
from mlaudit.stack import Stack

pytestmark = pytest.mark.stack

INDEX = "logs-mlaudit.*"
TRAIN = """
import sys
import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
data = load_iris()
model = LogisticRegression(max_iter=300, random_state=int(sys.argv[2])).fit(data.data, data.target)
model.score(data.data[::3], data.target[::3])
joblib.dump(model, sys.argv[1])
"""
PROMOTE = """
import sys
import mlaudit
fields = {"ml.model.name": sys.argv[1], "ml.model.version": "1", "ml.registry.alias": "champion",
          "ml.registry.after": "1", "ml.change.ticket": "CHG-2041"}
assert mlaudit.record("audit.ml.model.promoted", actor="carol", fields=fields)
"""
SERVE = """
import os
import joblib
from fastapi import FastAPI
app = FastAPI()
model = joblib.load(os.environ["MODEL"])
@app.post("/predict")
def predict(rows: list[list[float]]):
    return {"classes": model.predict(rows).tolist()}
"""


@dataclass
class Told:
    """The recorded story, and the command line that shows its lineage."""

    stack: Stack
    client: Elasticsearch
    state: Path
    name: str

    def run(self, *arguments: object) -> Result:
        """``mlaudit lineage`` with a reader's rights."""
        user, password = self.stack.reader_auth
        variables = {
            "MLAUDIT_ES_URL": self.stack.elasticsearch_url,
            "MLAUDIT_ES_USERNAME": user,
            "MLAUDIT_ES_PASSWORD": password,
            "MLAUDIT_STATE_DIR": str(self.state),
            **({"MLAUDIT_ES_CA_FILE": str(self.stack.ca_file)} if self.stack.ca_file else {}),
        }
        return CliRunner().invoke(app, ["lineage", *map(str, arguments)], env=variables)

    def document(self, *arguments: object) -> dict[str, Any]:
        """Its JSON."""
        result = self.run(*arguments, "--format", "json")
        assert result.exit_code == 0, result.output
        told: dict[str, Any] = json.loads(result.stdout)
        return told

    def count(self, kind: str) -> int:
        """How many records of a kind name the model."""
        self.client.indices.refresh(index=INDEX)
        named = [{"term": {"ml.model.name": self.name}}, {"term": {"audit.kind": kind}}]
        return int(self.client.count(index=INDEX, query={"bool": {"filter": named}})["count"])


def _environment(stack: Stack, state: Path, service: str, **more: str) -> dict[str, str]:
    trust = {"MLAUDIT_CA_FILE": str(stack.otlp_ca_file)} if stack.otlp_ca_file else {}
    return environment(
        state,
        MLAUDIT_SERVICE_NAME=service,
        MLAUDIT_ENDPOINT=stack.otlp_endpoint,
        MLAUDIT_TOKEN_FILE=str(stack.token_file),
        MLAUDIT_SHUTDOWN_SECONDS="30",
        MLAUDIT_OTEL="off",
        OMP_NUM_THREADS="1",
        **trust,
        **more,
    )


def _python(program: str, folder: Path, variables: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def told(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A model trained, promoted, served and queried, with all of its records in the cluster."""
    tmp_path, service = tmp_path_factory.mktemp("lineage"), f"test-{uuid.uuid4()}"
    state, name = tmp_path / "state", f"model-{service[-12:]}"
    model = tmp_path / f"{name}.joblib"
    _python(TRAIN, tmp_path, _environment(stack, state, "trainer"), str(model), str(time.time_ns() % 2**31))
    _python(PROMOTE, tmp_path, _environment(stack, state, "registry"), name)
    (tmp_path / "service.py").write_text(SERVE, encoding="utf-8")
    variables = _environment(stack, state, service, MODEL=str(model))
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", "0", "--no-access-log"]
    with started(command, tmp_path, variables) as process:
        port = int(process.wait_for(r"running on http://127\.0\.0\.1:(\d+)")[1])
        for number in range(7):
            rows = json.dumps([[5.1, 3.5, 1.4, 0.2]] * (number + 1)).encode()
            assert request(port, "POST", "/predict", rows)[0] == 200
        process.stop()
    ca_certs = str(stack.ca_file) if stack.ca_file else None
    with Elasticsearch(
        stack.elasticsearch_url, basic_auth=stack.elasticsearch_auth, ca_certs=ca_certs
    ) as client:
        told = Told(stack, client, state, name)
        wait_for(lambda: told.count("audit.ml.prediction") == 7, "seven predictions in the cluster", 60)
        yield told


def test_chain_of_a_real_model(told: Told) -> None:
    """From the digest of the data to the count of predictions, every link is found from real records."""
    found = told.document(told.name)

    assert (found["model"]["name"], found["model"]["version"]) == (told.name, "1")
    path = {node["stage"]: node for node in found["nodes"] if node["on_path"]}
    (digest,) = found["model"]["digests"]
    assert path["artifact"]["facts"]["digest"] == digest
    assert path["artifact"]["status"] == "seen"
    run = path["run"]["facts"]
    assert (run["state"], run["model_class"].rpartition(".")[2]) == ("completed", "LogisticRegression")
    trained = next(one for one in found["edges"] if one["kind"] == "trained_on")
    assert trained["target"] == f"run/{run['run_id']}"
    assert {
        "source": f"run/{run['run_id']}",
        "target": f"artifact/{digest}",
        "kind": "made",
        "proven": True,
    } in found["edges"]
    scores = [node["facts"] for node in found["nodes"] if node["facts"].get("method") == "score"]
    assert scores[0]["metrics"]["accuracy"] > 0.9
    assert path["approval"]["facts"]["alias"] == "champion"
    assert path["approval"]["facts"]["history"][0]["ticket"] == "CHG-2041"
    assert path["deployment"]["facts"]["loads"] == 1
    predictions = path["predictions"]["facts"]
    assert (predictions["count"], predictions["rows"]) == (7, sum(range(1, 8)))
    assert predictions["outcomes"] == {"success": 7}
    assert found["evidence"]["faults"] == found["evidence"]["unsealed"] == 0
    assert all(one["sealed"] for node in found["nodes"] for one in node["records"]["read"])


def test_alias_version_and_digest_name_the_same(told: Told) -> None:
    """A model can be selected by its alias, its version and its digest."""
    by_version = told.document(f"{told.name}:1")
    by_alias = told.document(f"{told.name}@champion")
    by_digest = told.document(f"{told.name}:{by_version['model']['digests'][0][:12]}")

    assert by_version["nodes"] == by_alias["nodes"]
    assert {node["id"] for node in by_digest["nodes"]} == {node["id"] for node in by_version["nodes"]}


def test_text_picture_and_proof(told: Told, tmp_path: Path) -> None:
    """The text names the results, the picture is one SVG, and with --verify every stream is proved."""
    text = told.run(told.name, "--verify")
    assert text.exit_code == 0, text.output
    assert "7 predictions" in text.stdout
    assert text.stdout.count(": holds") == 3
    picture = tmp_path / "lineage.svg"

    assert told.run(told.name, "--format", "svg", "--output", picture).exit_code == 0

    root = ET.fromstring(picture.read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "7 predictions" in {element.text for element in root.iter()}


def test_altered_record_is_told(told: Told) -> None:
    """A changed searchable field is not trusted: the original's value is shown, and the difference reported."""
    query = {
        "bool": {
            "filter": [
                {"term": {"ml.model.name": told.name}},
                {"term": {"audit.kind": "audit.ml.model.saved"}},
            ]
        }
    }
    (hit,) = told.client.search(index=INDEX, query=query, seq_no_primary_term=True)["hits"]["hits"]
    place: dict[str, Any] = {"index": hit["_index"], "id": hit["_id"], "refresh": True}
    altered = hit["_source"] | {"ml.training.run_id": "another-run"}
    written = told.client.index(
        **place, document=altered, if_seq_no=hit["_seq_no"], if_primary_term=hit["_primary_term"]
    )
    try:
        result = told.run(told.name, "--format", "json")
    finally:
        told.client.index(
            **place,
            document=hit["_source"],
            if_seq_no=written["_seq_no"],
            if_primary_term=written["_primary_term"],
        )

    assert result.exit_code == 1
    found = json.loads(result.stdout)
    artifact = next(node for node in found["nodes"] if node["stage"] == "artifact")
    assert artifact["facts"]["run_id"] != "another-run"
    faults = [one["fault"] for one in artifact["records"]["read"] if one["fault"]]
    assert faults == [
        f"ml.training.run_id is searchable as another-run, sealed as {artifact['facts']['run_id']}"
    ]


def test_window_bounds_what_it_was_used_for(told: Told) -> None:
    """Time bounds exclude loads and predictions, but not the records of how the model was made."""
    found = told.document(told.name, "--until", "2020-01-01")

    stages = {node["stage"] for node in found["nodes"]}
    assert "predictions" not in stages
    assert {"run", "artifact"} <= stages
    result = told.run(told.name, "--until", "2020-01-01", "--complete")
    assert result.exit_code == 1


def test_unknown_model_and_version(told: Told) -> None:
    """An unknown name is an error that lists the known ones."""
    near = told.run(told.name.upper())
    version = told.run(f"{told.name}:9")

    assert near.exit_code == version.exit_code == 2
    assert told.name in near.stderr
    assert "versions 1 and aliases champion" in version.stderr


@pytest.fixture
def namespace(elasticsearch: Elasticsearch) -> Iterator[Namespace]:
    """Data streams for this test alone."""
    made = Namespace(elasticsearch)
    yield made
    made.empty()


def test_more_than_is_read(namespace: Namespace, told: Told) -> None:
    """Of a thousand trials and two thousand unsealed predictions, few are read and all are counted."""
    digest = "ab" * 32

    def body(number: int, kind: str, class_: str, **fields: Any) -> dict[str, Any]:
        original = {
            "@timestamp": f"2026-11-25T03:30:00.{number:09d}Z",
            "audit.record.id": f"019ab8a1-0000-7000-8000-{number:012x}",
            "audit.kind": kind,
            "event.dataset": f"mlaudit.{class_}",
            "event.outcome": "success",
            "service.name": "big",
            "audit.actor.id": f"user-{number % 9}",
            **{name.replace("__", "."): value for name, value in fields.items()},
        }
        return original | {"event.original": orjson.dumps(original, option=orjson.OPT_SORT_KEYS).decode()}

    bodies = [
        body(
            0,
            "audit.ml.tuning.started",
            "training",
            ml__training__run_id="study",
            ml__training__method="study",
        ),
        *(
            body(
                1 + n,
                "audit.ml.tuning.trial",
                "training",
                ml__training__run_id=f"trial-{n}",
                ml__training__parent_run_id="study",
                ml__training__method="trial",
                ml__training__trial__number=n,
            )
            for n in range(1000)
        ),
        body(
            2000,
            "audit.ml.model.saved",
            "change",
            ml__model__name="big",
            ml__model__version="1",
            ml__model__digest=digest,
            ml__training__run_id="trial-7",
        ),
        *(
            body(
                3000 + n,
                "audit.ml.prediction",
                "prediction",
                ml__model__digest=digest,
                ml__prediction__rows=2,
            )
            for n in range(2000)
        ),
    ]
    nameless = body(9000, "audit.ml.prediction", "prediction", ml__model__digest=digest)
    del nameless["service.name"]
    namespace.store([*bodies, nameless])

    found = told.run("big", "--namespace", namespace.name, "--format", "json")

    document = json.loads(found.stdout)
    assert document["more_runs"] == {
        "run/study": 1000 - sum(n["title"].startswith("trial") for n in document["nodes"])
    }
    by_service = {
        node["facts"].get("service"): node for node in document["nodes"] if node["stage"] == "predictions"
    }
    assert by_service[None]["facts"]["count"] == 1
    predictions = by_service["big"]
    assert (predictions["facts"]["count"], predictions["facts"]["rows"], predictions["facts"]["actors"]) == (
        2000,
        4000,
        9,
    )
    assert (predictions["records"]["unsealed"], len(predictions["records"]["read"])) == (2000, 2)
    assert "and 999 more trials" in told.run("big", "--namespace", namespace.name).stdout
