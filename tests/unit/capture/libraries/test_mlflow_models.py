"""Models that MLflow writes, reads and asks: digests, names, versions, before anything of them runs."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import cloudpickle
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression, SGDClassifier

from mlaudit.capture.libraries.mlflow.state import logging_model
from mlaudit.capture.models import artifact_files, known_models
from mlaudit.capture.nesting import part_of_artifact
from mlaudit.capture.request_context import RequestTrail, current_request
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.event import new_record_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlaudit.testing import AuditLog

SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
PREDICTION = "audit.ml.prediction"
X = np.array([[0.0], [1.0], [2.0], [3.0]] * 5)
Y = np.array([0, 0, 1, 1] * 5)
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules: [{name: strict, level: metadata, on_failure: refuse}]
"""
# MLflow 3.10 and later write scikit-learn models with skops, which is not always installed.
PICKLE = {"serialization_format": mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE}

pytestmark = [pytest.mark.usefixtures("store"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def log(hooked: Any) -> Iterator[AuditLog]:
    """Records under the hooks into MLflow and scikit-learn."""
    with hooked("mlflow", "sklearn") as found:
        yield found


@pytest.fixture
def name() -> str:
    """A model that no other test has."""
    return f"credit-{new_record_id()}"


class Doubles(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """A model made of code."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Twice what it is given."""
        return np.asarray(model_input) * 2


def logged(model: Any, name: str) -> str:
    """Logs and registers a model in a run; returns the run's number."""
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(model, "model", registered_model_name=name, **PICKLE)
    return str(run.info.run_id)


def test_logged_model_is_saved_with_its_digest(log: AuditLog, name: str) -> None:
    """The folder's digest, its place, its run and its class are in the record, which is made once."""
    model = LogisticRegression().fit(X, Y)
    run = logged(model, name)
    (record,) = log.of(SAVED)
    assert len(record["ml.model.digest"]) == 64
    assert record["ml.model.name"] == "model"
    assert record["ml.training.run_id"] == run
    assert record["ml.model.class"] == "sklearn.linear_model.LogisticRegression"
    assert "sklearn" in record["labels"]["flavors"]
    assert known_models.lookup(model).name == name
    assert known_models.lookup(model).version == "1"
    assert log.of(PREDICTION) == []


@pytest.mark.parametrize("flavor", ["pyfunc", "sklearn"])
def test_model_from_the_registry_is_known(log: AuditLog, name: str, flavor: str) -> None:
    """By version, alias or stage: name, version, alias, run and the digest that was registered."""
    run = logged(LogisticRegression().fit(X, Y), name)
    client = MlflowClient()
    client.set_registered_model_alias(name, "champion", "1")
    load = getattr(mlflow, flavor).load_model
    client.transition_model_version_stage(name, "1", "Staging")
    sources = [
        f"models:/{name}/1",
        f"models:/{name}@champion",
        f"models:/{name}/Staging",
        f"models:/{name}/latest",
    ]
    models = [load(source) for source in sources]
    saved = log.of(SAVED)[0]
    assert len(log.of(LOADED)) == len(sources)
    for record in log.of(LOADED):
        assert record["audit.target.id"] == f"{name}@1"
        assert record["ml.model.path"] == f"models:/{name}/1"
        assert record["ml.training.run_id"] == run
        assert record["ml.model.digest"] == saved["ml.model.digest"]
        assert record["ml.model.registration"] == "match"
    aliases = [record.get("ml.registry.alias") for record in log.of(LOADED)]
    assert aliases == [None, "champion", "Staging", None]
    models[0].predict(X)
    (prediction,) = log.of(PREDICTION)
    assert prediction["ml.model.name"] == name
    assert prediction["ml.model.version"] == "1"
    assert prediction["ml.model.digest"] == saved["ml.model.digest"]
    assert prediction["ml.training.run_id"] == run
    assert prediction["ml.prediction.rows"] == len(X)


def test_model_from_a_run(log: AuditLog, name: str) -> None:
    """A model that is no registered version is known by its digest and its run."""
    with mlflow.start_run() as run:
        info = mlflow.sklearn.log_model(LogisticRegression().fit(X, Y), "scorer", **PICKLE)
    mlflow.sklearn.load_model(info.model_uri)
    (record,) = log.of(LOADED)
    assert record["ml.model.name"] == "scorer"
    assert record["ml.training.run_id"] == run.info.run_id
    assert record["ml.model.digest"] == log.of(SAVED)[0]["ml.model.digest"]
    assert record["ml.model.registration"] == "match"
    assert "ml.model.version" not in record


def test_alias_that_moves_meanwhile(log: AuditLog, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that was fetched is on record, not the one that the alias points to a moment later."""
    logged(LogisticRegression().fit(X, Y), name)
    logged(LogisticRegression(C=2.0).fit(X, Y), name)
    client = MlflowClient()
    client.set_registered_model_alias(name, "champion", "1")
    original = artifact_files.read

    def move(*arguments: Any) -> Any:
        client.set_registered_model_alias(name, "champion", "2")
        return original(*arguments)

    monkeypatch.setattr(artifact_files, "read", move)
    mlflow.sklearn.load_model(f"models:/{name}@champion")
    (record,) = log.of(LOADED)
    assert record["audit.target.id"] == f"{name}@1"
    assert record["ml.model.registration"] == "match"


def test_folder_saved_and_loaded_and_exchanged(log: AuditLog, tmp_path: Path) -> None:
    """A model in a folder of one's own has versions there, and one that was tampered with is a mismatch."""
    folder = tmp_path / "credit"
    mlflow.sklearn.save_model(LogisticRegression().fit(X, Y), folder, **PICKLE)
    mlflow.pyfunc.load_model(str(folder))
    saved, loaded = log.of(SAVED)[0], log.of(LOADED)[0]
    assert saved["audit.target.id"] == "credit@1"
    assert loaded["ml.model.digest"] == saved["ml.model.digest"] == artifact_files.read(folder).digest
    assert loaded["ml.model.registration"] == "match"
    with (folder / "model.pkl").open("wb") as file:
        cloudpickle.dump(LogisticRegression(C=2.0).fit(X, Y), file)
    mlflow.pyfunc.load_model(str(folder))
    assert log.of(LOADED)[1]["ml.model.registration"] == "mismatch"
    assert log.of(LOADED)[1]["ml.model.registered_digest"] == saved["ml.model.digest"]


def test_model_of_code_saved_anew_is_a_retraining(log: AuditLog, tmp_path: Path) -> None:
    """What is no object of a library is saved and told as well; a folder with new content is a retraining."""
    folder = tmp_path / "doubles"
    mlflow.pyfunc.save_model(path=str(folder), python_model=Doubles(), pip_requirements=[])
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
    mlflow.pyfunc.save_model(
        path=str(folder), python_model=Doubles(), pip_requirements=[], metadata={"changed": "yes"}
    )
    assert [record["ml.model.version"] for record in log.of(SAVED)] == ["1", "2"]
    (notice,) = log.of("audit.ml.model.retrained")
    assert notice["ml.model.previous.digest"] == log.of(SAVED)[0]["ml.model.digest"]
    model = mlflow.pyfunc.load_model(str(folder))
    assert np.asarray(model.predict(pd.DataFrame({"x": [2.0]}))).tolist() == [[4.0]]
    (record,) = log.of(PREDICTION)
    assert record["ml.model.name"] == "doubles"
    assert record["ml.model.digest"] == log.of(SAVED)[1]["ml.model.digest"]


def test_the_record_comes_before_the_first_byte_is_unpickled(
    log: AuditLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that runs code when it is loaded is on record before that code runs."""
    folder = tmp_path / "trap"
    mlflow.sklearn.save_model(LogisticRegression().fit(X, Y), folder, **PICKLE)
    seen: list[int] = []
    original = cloudpickle.load

    def spy(*arguments: Any, **named: Any) -> Any:
        seen.append(len(log.of(LOADED)))
        return original(*arguments, **named)

    monkeypatch.setattr(cloudpickle, "load", spy)
    mlflow.sklearn.load_model(str(folder))
    assert seen == [1]


def test_refused_load_does_not_unpickle(hooked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With on_failure refuse, what cannot be recorded is not loaded, not saved, and gives no prediction."""
    with hooked("mlflow", "sklearn", policy=REFUSE) as log:
        folder = tmp_path / "credit"
        mlflow.sklearn.save_model(LogisticRegression().fit(X, Y), folder, **PICKLE)
        model = mlflow.pyfunc.load_model(str(folder))
        monkeypatch.setattr(cloudpickle, "load", None)
        log.fail(SpoolUnavailableError("disk full"))
        with pytest.raises(AuditRefusedError):
            mlflow.sklearn.load_model(str(folder))
        with pytest.raises(AuditRefusedError):
            mlflow.sklearn.save_model(LogisticRegression(), tmp_path / "other", **PICKLE)
        assert not (tmp_path / "other").exists()
        with pytest.raises(AuditRefusedError):
            model.predict(X)
        log.heal()


def test_refusal_after_the_folder_was_read_stops_the_load(hooked: Any, tmp_path: Path) -> None:
    """A disk that fills up just before the record is made keeps the model from being loaded."""
    with hooked("mlflow", "sklearn", policy=REFUSE) as log:
        folder = tmp_path / "credit"
        mlflow.sklearn.save_model(LogisticRegression().fit(X, Y), folder, **PICKLE)
        original = artifact_files.read

        def fill(*arguments: Any) -> Any:
            log.fail(SpoolUnavailableError("disk full"))
            return original(*arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(artifact_files, "read", fill)
            with pytest.raises(AuditRefusedError):
                mlflow.sklearn.load_model(str(folder))
        log.heal()


def test_failures_are_recorded_and_raised(log: AuditLog, tmp_path: Path) -> None:
    """A model that is not there, and one that is damaged, are failures on record; MLflow's error goes on."""
    with pytest.raises(Exception, match=r".*"):
        mlflow.pyfunc.load_model(str(tmp_path / "missing"))
    folder = tmp_path / "damaged"
    mlflow.sklearn.save_model(LogisticRegression().fit(X, Y), folder, **PICKLE)
    (folder / "model.pkl").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r".*"):
        mlflow.sklearn.load_model(str(folder))
    outcomes = [(record["ml.model.name"], record["event.outcome"]) for record in log.of(LOADED)]
    assert outcomes == [("missing", "failure"), ("damaged", "success"), ("damaged", "failure")]


def test_folder_that_is_uploaded_by_hand(log: AuditLog, tmp_path: Path) -> None:
    """A model's folder that somebody logs as artifacts is a saved model; other folders are nobody's."""
    folder = tmp_path / "credit"
    mlflow.sklearn.save_model(LogisticRegression().fit(X, Y), folder, **PICKLE)
    plots = tmp_path / "plots"
    plots.mkdir()
    (plots / "a.png").write_bytes(b"x")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "models/credit")
        mlflow.log_artifacts(str(plots))
    local, uploaded = log.of(SAVED)
    assert uploaded["ml.model.name"] == "credit"
    assert uploaded["ml.model.digest"] == local["ml.model.digest"]
    assert uploaded["ml.training.run_id"] == run.info.run_id
    assert uploaded["ml.model.path"].endswith("models/credit")


def test_file_that_is_uploaded_by_hand(log: AuditLog, tmp_path: Path) -> None:
    """A file that holds a model is a saved model, with its digest and its run; a picture or a text is not."""
    path = tmp_path / "credit.joblib"
    path.write_bytes(cloudpickle.dumps(LogisticRegression()))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(path), "models")
        mlflow.log_text("nothing", "notes.txt")
        mlflow.log_dict({"a": 1}, "a.json")
    (record,) = log.of(SAVED)
    assert record["ml.model.name"] == "credit"
    assert record["ml.model.digest"] == artifact_files.read(path).digest
    assert record["ml.model.path"].endswith("models/credit.joblib")
    assert record["ml.training.run_id"] == run.info.run_id


def test_upload_that_fails(log: AuditLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that refuses a model leaves a failure on record, and its error goes to the caller."""
    path = tmp_path / "credit.joblib"
    path.write_bytes(b"x")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("mlflow.tracking._tracking_service.client.TrackingServiceClient.log_artifact", refuse)
    with mlflow.start_run(), pytest.raises(PermissionError):
        mlflow.log_artifact(str(path))
    (record,) = log.of(SAVED)
    assert record["event.outcome"] == "failure"
    assert record["error.type"] == "PermissionError"


def test_prediction_in_a_request_belongs_to_it(log: AuditLog, name: str) -> None:
    """Inside a request the prediction is left for the request's record, with name, version and run."""
    run = logged(LogisticRegression().fit(X, Y), name)
    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    trail = RequestTrail()
    token = current_request.set(trail)
    try:
        model.predict(X)
    finally:
        current_request.reset(token)
    (use,) = trail.models
    assert (use.name, use.version) == (name, "1")
    assert use.fields["ml.training.run_id"] == run
    assert log.of(PREDICTION) == []


def test_model_inside_a_loaded_one_is_known_too(log: AuditLog, name: str) -> None:
    """Whoever takes the scikit-learn model out of MLflow's shell has the same model."""
    logged(LogisticRegression().fit(X, Y), name)
    shell = mlflow.pyfunc.load_model(f"models:/{name}/1")
    inner = getattr(shell._model_impl, "sklearn_model", shell._model_impl)
    inner.predict(X)
    assert log.of(PREDICTION)[0]["audit.target.id"] == f"{name}@1"


def test_training_on_after_logging_is_a_run_of_its_own(log: AuditLog) -> None:
    """A model that was logged and is trained on does not add to the run of MLflow that has ended."""
    model = SGDClassifier()
    with mlflow.start_run() as run:
        model.partial_fit(X, Y, classes=[0, 1])
        mlflow.sklearn.log_model(model, "model", **PICKLE)
    model.partial_fit(X, Y)
    ids = [record["ml.training.run_id"] for record in log.of("audit.ml.training.completed")]
    assert len(set(ids)) == len(ids) == 3
    assert ids.count(run.info.run_id) == 1


def test_broken_hooks_harm_nobody(hooked: Any, broken: str, name: str, tmp_path: Path) -> None:
    """With every hook broken on purpose models are logged, registered, loaded and asked, and the faults are told."""
    assert broken
    with hooked("mlflow") as log:
        model = LogisticRegression().fit(X, Y)
        logged(model, name)
        mlflow.sklearn.save_model(model, tmp_path / "m", **PICKLE)
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
        assert loaded.predict(X).tolist() == model.predict(X).tolist()
        failed = {record["audit.kind"] for record in log.records if record.get("audit.failed")}
    assert failed >= {SAVED, LOADED, PREDICTION}
    gc.collect()
    assert not part_of_artifact.get()
    assert logging_model.get() is None
    assert os.path.isdir(tmp_path / "m")  # noqa: PTH112
