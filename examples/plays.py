"""The examples: what each does, and the kinds of event that it must record.

The programs are ordinary ones: none imports mlaudit, and each is audited by its environment alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from examples.demo.scene import Scene
from examples.programs import EXAMPLES, audited, expect, python, run, serve
from mlaudit.stack.local_stack import Stack

KEYS = {"clinic": "key of the clinic", "operator": "key of the operator"}


@dataclass(frozen=True)
class Play:
    """One run of one example.

    Attributes:
        folder: for its files.
        state: for spool and keys.
        stack: receives its records.
        service: its name there.
    """

    folder: Path
    state: Path
    stack: Stack
    service: str

    def environment(self, **more: str) -> dict[str, str]:
        """The environment that audits it."""
        return audited(self.stack, self.state, self.service, **more)


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        name: also the end of its service's name.
        about: what it shows.
        play: runs it; raises ``SystemExit`` when a program does not behave as expected.
        kinds: the kinds that it must record at least, besides start and stop.
    """

    name: str
    about: str
    play: Callable[[Play], None]
    kinds: frozenset[str]


def fastapi(play: Play) -> None:
    """Trains a model, serves it with FastAPI, sends valid and forbidden requests, changes the configuration."""
    scene = Scene(play.folder, play.stack)
    scene.prepare()
    environment = play.environment(MODEL_CONFIG=str(scene.config), MODEL_USERS=str(scene.users))
    run(python(EXAMPLES / "training" / "train.py", scene.model), environment, play.folder)
    command = python("-m", "uvicorn", "app:app", "--port", "{port}", "--no-access-log")
    row = load_breast_cancer().data[:1].tolist()
    with serve(command, environment, EXAMPLES / "service", play.folder / "service.log") as server:
        with httpx.Client(base_url=server.url, auth=("alice", "open sesame"), timeout=30) as alice:
            for _ in range(5):
                expect(alice.post("/predict", json={"rows": row}), 200)
            expect(alice.put("/config", json={"threshold": 0.1}), 403)
        with httpx.Client(base_url=server.url, auth=("erin", "open sesame"), timeout=30) as erin:
            expect(erin.put("/config", json={"threshold": 0.4}), 200)
        expect(httpx.post(f"{server.url}/predict", json={"rows": row}, auth=("mallory", "?")), 401)


def flask(play: Play) -> None:
    """Trains a model and serves it with Flask's own server."""
    _ask_flask(play, python("-m", "flask", "--app", "app", "run", "--port", "{port}"))


def workers(play: Play) -> None:
    """The same service in two worker processes of gunicorn, each with its own chain."""
    configuration = EXAMPLES / "workers" / "gunicorn.conf.py"
    _ask_flask(
        play,
        python("-m", "gunicorn", "--config", configuration, "--bind", "127.0.0.1:{port}", "app:app"),
    )


def _ask_flask(play: Play, command: list[str | Path]) -> None:
    model, keys = play.folder / "diabetes.joblib", play.folder / "keys.json"
    keys.write_text(
        json.dumps({hashlib.sha256(key.encode()).hexdigest(): name for name, key in KEYS.items()})
    )
    environment = play.environment(MODEL=str(model), API_KEYS=str(keys))
    run(python(EXAMPLES / "flask_service" / "train.py", model), environment, play.folder)
    row = load_diabetes().data[:1].tolist()
    with serve(command, environment, EXAMPLES / "flask_service", play.folder / "service.log") as server:
        for name, status in (("clinic", 403), ("operator", 200)):
            key = {"X-API-Key": KEYS[name]}
            for _ in range(8):  # one connection per request, so that every worker gets some
                expect(httpx.post(f"{server.url}/predict", json={"rows": row}, headers=key), 200)
            changed = httpx.put(f"{server.url}/config/rounding", json={"round_to": 2}, headers=key)
            expect(changed, status)
        expect(httpx.post(f"{server.url}/predict", json={"rows": row}), 401)


def batch(play: Play) -> None:
    """A batch job that reads a CSV file, scores it and writes a Parquet file."""
    model, patients = play.folder / "diabetes.joblib", play.folder / "patients.csv"
    environment = play.environment()
    run(python(EXAMPLES / "flask_service" / "train.py", model), environment, play.folder)
    frame = load_diabetes(as_frame=True).data
    frame.rename_axis("patient").to_csv(patients)
    score = EXAMPLES / "batch" / "score.py"
    run(python(score, model, patients, play.folder / "scores.parquet"), environment, play.folder)


def pipeline(play: Play) -> None:
    """Optuna looks for LightGBM's parameters; MLflow keeps the run, the model and its versions."""
    data = play.folder / "wine.csv"
    _write_wine(data)
    environment = play.environment(
        MLFLOW_TRACKING_URI=f"sqlite:///{play.folder / 'mlflow.db'}",
        MLAUDIT_CHANGE_TICKET="CHG-2041",
        MLAUDIT_CHANGE_APPROVER="grace",
        **QUIET_MLFLOW,
    )
    run(python(EXAMPLES / "pipeline" / "train.py", "--data", data), environment, play.folder)


def llm(play: Play) -> None:
    """A client of a language model, under OpenTelemetry's instrumentation, against a stand-in of the provider."""
    stand_in = python(EXAMPLES / "llm" / "stand_in.py", "{port}")
    log = play.folder / "stand_in.log"
    with serve(stand_in, {"PYTHONUNBUFFERED": "1"}, play.folder, log, health="/") as provider:
        environment = play.environment(
            OPENAI_BASE_URL=f"{provider.url}/v1", OPENAI_API_KEY="of the example", **NO_TELEMETRY
        )
        launcher = Path(sys.executable).with_name("opentelemetry-instrument")
        run([launcher, *python(EXAMPLES / "llm" / "client.py")], environment, play.folder)


def notebook(play: Play) -> None:
    """A notebook that reads data, trains, and makes a mistake."""
    _write_wine(play.folder / "wine.csv")
    source = EXAMPLES / "notebook" / "wine.ipynb"
    program = (
        "import sys, nbformat, nbclient; "
        "nbclient.NotebookClient(nbformat.read(sys.argv[1], as_version=4), timeout=120, "
        "resources={'metadata': {'path': sys.argv[2]}}).execute()"
    )
    run(python("-c", program, source, play.folder), play.environment(), play.folder)


def _write_wine(path: Path) -> None:
    load_wine(as_frame=True).frame.to_csv(path, index=False)


# The launcher's own exporters are off: auditing does not depend on them.
NO_TELEMETRY = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}
QUIET_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

_TRAINED = {
    "audit.ml.training.started",
    "audit.ml.training.completed",
    "audit.ml.training.evaluated",
    "audit.ml.model.saved",
}
_SERVED = {
    "audit.ml.model.loaded",
    "audit.ml.deployment.started",
    "audit.ml.prediction",
    "audit.access.authentication.failed",
    "audit.access.denied",
    "audit.ml.config.changed",
    "audit.ml.deployment.ended",
}

EXAMPLES_TO_PLAY = (
    Example(
        "fastapi",
        "a scikit-learn model trained, and served by FastAPI and uvicorn",
        fastapi,
        frozenset(_TRAINED | _SERVED),
    ),
    Example("flask", "a scikit-learn model served by Flask", flask, frozenset(_TRAINED | _SERVED)),
    Example(
        "workers", "the Flask service in two workers of gunicorn", workers, frozenset(_TRAINED | _SERVED)
    ),
    Example(
        "batch",
        "a nightly job with pandas: read, score, write",
        batch,
        frozenset(
            {
                "audit.data.read",
                "audit.ml.model.loaded",
                "audit.ml.prediction",
                "audit.data.modified",
            }
        ),
    ),
    Example(
        "pipeline",
        "Optuna, LightGBM and MLflow, from data to champion",
        pipeline,
        frozenset(
            {
                "audit.data.read",
                "audit.ml.training.started",
                "audit.ml.training.completed",
                "audit.ml.tuning.started",
                "audit.ml.tuning.trial",
                "audit.ml.tuning.completed",
                "audit.ml.model.saved",
                "audit.ml.model.registered",
                "audit.ml.config.changed",
                "audit.ml.model.promoted",
                "audit.ml.model.loaded",
                "audit.ml.prediction",
            }
        ),
    ),
    Example(
        "llm",
        "a client of a language model, under OpenTelemetry's instrumentation",
        llm,
        frozenset({"audit.ml.prediction"}),
    ),
    Example(
        "notebook",
        "a Jupyter notebook: cells, data, training",
        notebook,
        frozenset(
            {
                "audit.debug.started",
                "audit.notebook.cell.executed",
                "audit.data.read",
                "audit.ml.training.completed",
                "audit.ml.training.evaluated",
                "audit.ml.prediction",
                "audit.debug.ended",
            }
        ),
    ),
)
