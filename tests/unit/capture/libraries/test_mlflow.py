"""MLflow's runs: what becomes of them, whoever makes and ends them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.capture.libraries.mlflow import run_hooks
from mlaudit.capture.libraries.mlflow.state import place_of
from mlaudit.capture.request_context import current_run
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlaudit.testing import AuditLog

STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
X = np.array([[0.0], [1.0], [2.0], [3.0]] * 5)
Y = np.array([0, 0, 1, 1] * 5)
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules: [{name: strict, level: metadata, on_failure: refuse}]
"""

pytestmark = [pytest.mark.usefixtures("store"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def log(hooked: Any) -> Iterator[AuditLog]:
    """Records under the hooks into MLflow and scikit-learn."""
    with hooked("mlflow", "sklearn") as found:
        yield found
    assert current_run.get() is None


def by_run(log: AuditLog, run_id: str) -> list[str]:
    """What happened to a run."""
    return [record["audit.kind"] for record in log.records if record.get("ml.training.run_id") == run_id]


def test_run_is_a_training_with_what_was_logged(log: AuditLog) -> None:
    """Parameters, metrics with their extremes, tags, experiment and MLflow's own id are in the run's record."""
    mlflow.set_experiment("credit")
    with mlflow.start_run(run_name="first", tags={"mlflow.source.git.commit": "abc123"}) as run:
        mlflow.log_param("C", 0.5)
        mlflow.log_params({"solver": "lbfgs", "max_iter": 100})
        for step, loss in enumerate([0.9, 0.2, 0.4]):
            mlflow.log_metric("loss", loss, step=step)
        mlflow.log_metrics({"auc": 0.8, "nothing": float("nan")})
    started, completed = log.of(STARTED)[0], log.of(COMPLETED)[0]
    for record in (started, completed):
        assert record["ml.training.run_id"] == run.info.run_id
        assert record["ml.training.method"] == "run"
        assert record["ml.experiment.name"] == "credit"
        assert record["ml.experiment.id"] == run.info.experiment_id
        assert record["labels"]["run"] == "first"
        assert record["labels"]["git_commit"] == "abc123"
        assert record["audit.target.id"] == "first"
    assert completed["ml.training.parameters"] == {"C": "0.5", "solver": "lbfgs", "max_iter": "100"}
    assert completed["ml.training.metrics"] == {
        "loss": 0.4,
        "loss.min": 0.2,
        "loss.max": 0.9,
        "loss.count": 3,
        "auc": 0.8,
        "nothing": "nan",
    }
    assert completed["ml.training.duration"] > 0
    assert log.kinds() == [STARTED, COMPLETED]


def test_nested_runs_and_fits_name_their_parents(log: AuditLog) -> None:
    """A run in a run is its child, a fit in a run is its child, and each is recorded once."""
    with mlflow.start_run() as outer:
        with mlflow.start_run(nested=True) as inner:
            LogisticRegression().fit(X, Y)
        LogisticRegression().fit(X, Y)
    parents = {
        record["ml.training.run_id"]: record.get("ml.training.parent_run_id") for record in log.of(COMPLETED)
    }
    fits = [
        record["ml.training.run_id"] for record in log.of(COMPLETED) if record["ml.training.method"] == "fit"
    ]
    assert parents == {
        outer.info.run_id: None,
        inner.info.run_id: outer.info.run_id,
        fits[0]: inner.info.run_id,
        fits[1]: outer.info.run_id,
    }
    assert len(log.of(STARTED)) == 4


def test_error_in_a_run_is_its_failure(log: AuditLog) -> None:
    """The exception that ends the block is recorded with its class, and goes on."""
    with pytest.raises(ValueError, match="no data"), mlflow.start_run():
        raise ValueError("no data")
    (record,) = log.of(FAILED)
    assert record["error.type"] == "ValueError"
    assert record["event.outcome"] == "failure"
    assert "FAILED" in record["event.reason"]


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_run_that_is_marked_as_failed(log: AuditLog, status: str) -> None:
    """Without an exception, MLflow's status is what is known."""
    mlflow.start_run()
    mlflow.end_run(status)
    (record,) = log.of(FAILED)
    assert record["error.type"] == status


def test_client_makes_and_ends_runs(log: AuditLog) -> None:
    """A run made and ended by a client is recorded as one made by the fluent functions, and is no parent."""
    client = MlflowClient()
    experiment = client.create_experiment("remote")
    run = client.create_run(experiment, run_name="remote run")
    client.log_metric(run.info.run_id, "auc", 0.7)
    LogisticRegression().fit(X, Y)
    client.set_terminated(run.info.run_id)
    assert by_run(log, run.info.run_id) == [STARTED, COMPLETED]
    assert log.of(COMPLETED)[1]["ml.training.metrics"] == {"auc": 0.7}
    assert "ml.training.parent_run_id" not in log.of(COMPLETED)[0]
    other = client.create_run(experiment)
    client.update_run(other.info.run_id, status="FAILED")
    assert by_run(log, other.info.run_id) == [STARTED, FAILED]
    third = client.create_run(experiment)
    client.update_run(third.info.run_id, name="renamed")
    assert by_run(log, third.info.run_id) == [STARTED]


def test_run_of_another_process_that_ends_here(log: AuditLog) -> None:
    """What the server knows of a run that was begun elsewhere is in the record of its end."""
    client = MlflowClient()
    run = client.create_run("0")
    client.log_param(run.info.run_id, "C", 1)
    client.log_metric(run.info.run_id, "auc", 0.7)
    run_hooks._runs.clear()
    client.set_terminated(run.info.run_id)
    (record,) = log.of(COMPLETED)
    assert record["ml.training.parameters"] == {"C": "1"}
    assert record["ml.training.metrics"] == {"auc": 0.7}


def test_run_that_goes_on(log: AuditLog) -> None:
    """A run that is resumed starts again under its id; one that a client began is entered without a second start."""
    with mlflow.start_run() as run:
        mlflow.log_param("C", 1)
    with mlflow.start_run(run_id=run.info.run_id):
        LogisticRegression().fit(X, Y)
    assert by_run(log, run.info.run_id) == [STARTED, COMPLETED, STARTED, COMPLETED]
    again = log.of(STARTED)[1]
    assert again["event.reason"] == "an earlier run goes on"
    assert again["ml.training.parameters"] == {"C": "1"}
    assert log.of(STARTED)[2]["ml.training.parent_run_id"] == run.info.run_id
    begun = MlflowClient().create_run(run.info.experiment_id)
    with mlflow.start_run(run_id=begun.info.run_id):
        pass
    assert by_run(log, begun.info.run_id) == [STARTED, COMPLETED]


def test_threads_have_runs_of_their_own(log: AuditLog) -> None:
    """Runs in two threads do not become each other's parents."""
    barrier = threading.Barrier(2)
    client = MlflowClient()

    def work() -> None:
        run = client.create_run("0")
        barrier.wait(10)
        with mlaudit.training_run(run.info.run_id):
            LogisticRegression().fit(X, Y)
        client.set_terminated(run.info.run_id)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = [record for record in log.of(COMPLETED) if record["audit.target.type"] == "run"]
    assert len(runs) == 2
    assert all("ml.training.parent_run_id" not in record for record in runs)


def test_data_sets_of_a_run(log: AuditLog) -> None:
    """A data set is recorded with its name, our own digest of the data, and its place without credentials."""
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    data = mlflow.data.from_pandas(
        frame, source="https://user:secret@example.com/loans.csv?sig=1", name="loans"
    )
    with mlflow.start_run():
        mlflow.log_input(data, context="training")
    record = log.of(COMPLETED)[0]
    assert record["ml.dataset.name"] == "loans"
    assert record["ml.dataset.digest"] == digest(frame)
    assert record["ml.dataset.rows"] == 2
    assert record["labels"]["datasets"] == f"training: loans {data.digest}"
    assert "secret" not in str(record)
    assert "sig=" not in str(record)


def test_places_have_no_credentials() -> None:
    """Addresses are written without user, password and query; what is no address is not written."""
    assert place_of("s3://key:secret@bucket/a/b.csv?X-Signature=1#f") == "s3://bucket/a/b.csv"
    assert place_of('{"uri": "s3://u:p@bucket/a"}') == "s3://bucket/a"
    assert place_of('{"sql": "select * from people where name = 1"}') == ""
    assert place_of("select name from people") == ""
    assert place_of("http://[broken") == ""
    assert place_of("{not json") == ""
    assert place_of(None) == ""


def test_secrets_among_parameters_are_removed(log: AuditLog) -> None:
    """A parameter that is named like a secret, or is one, is not in any record."""
    with mlflow.start_run(tags={"mlflow.source.git.commit": "AKIAIOSFODNN7EXAMPLE"}):
        mlflow.log_param("db_password", "hunter2secret")
        mlflow.log_param("source", "postgres://user:hunter3secret@db/loans")
    assert len(log.of(COMPLETED)) == 1
    for secret in ("hunter2secret", "hunter3secret", "AKIAIOSFODNN7EXAMPLE"):
        assert secret not in str(log.records)


def test_actor_of_a_run(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is stated goes first, then the account at the server, then MLflow's user tag."""
    with mlaudit.actor("alice"), mlflow.start_run():
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "svc-train")
    with mlflow.start_run():
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    with mlflow.start_run(tags={"mlflow.user": "bob"}):
        pass
    with mlflow.start_run(tags={"mlflow.user": "root"}):
        pass
    records = log.of(STARTED)
    assert [record["audit.actor.method"] for record in records] == [
        "context",
        "credential",
        "process",
        "process",
    ]
    assert [record["audit.actor.type"] for record in records] == ["user", "user", "user", "service"]
    assert len({record["audit.actor.id"] for record in records}) == 4


def test_autologging_is_one_run_with_one_fit(log: AuditLog) -> None:
    """Autologging makes a run around each fit; what it asks the model for itself is nobody's prediction."""
    mlflow.sklearn.autolog(log_input_examples=True, silent=True)
    try:
        LogisticRegression().fit(X, Y)
    finally:
        mlflow.sklearn.autolog(disable=True)
    run, fit = log.of(STARTED)
    assert fit["ml.training.parent_run_id"] == run["ml.training.run_id"]
    completed = next(one for one in log.of(COMPLETED) if one["ml.training.method"] == "run")
    assert completed["ml.training.run_id"] == run["ml.training.run_id"]
    assert "training_accuracy_score" in completed["ml.training.metrics"]
    assert completed["ml.training.parameters"]["C"] == "1.0"
    assert completed["labels"]["autologging"] == "sklearn"
    assert log.of("audit.ml.prediction") == []
    assert log.of("audit.ml.training.evaluated") == []


def test_autologged_search_has_children(log: AuditLog) -> None:
    """The candidates that autologging makes runs of are children of the search's run."""
    mlflow.sklearn.autolog(log_models=False, max_tuning_runs=2, silent=True)
    try:
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    finally:
        mlflow.sklearn.autolog(disable=True)
    (parent,) = [
        one
        for one in log.of(COMPLETED)
        if one["ml.training.method"] == "run" and "ml.training.parent_run_id" not in one
    ]
    children = [
        one
        for one in log.of(COMPLETED)
        if one.get("ml.training.parent_run_id") == parent["ml.training.run_id"]
    ]
    assert sorted(one["ml.training.method"] for one in children) == ["run", "run", "search"]
    assert len(log.of(STARTED)) == 4


def test_evaluation_is_one_record(log: AuditLog) -> None:
    """What MLflow evaluates is told with metrics, data and model; its own run, loads and predictions are silent."""
    model = LogisticRegression().fit(X, Y)
    frame = pd.DataFrame({"x": X[:, 0], "y": Y})
    with mlflow.start_run() as run:
        info = mlflow.sklearn.log_model(model, "model")
    before = len(log.records)
    evaluate = getattr(mlflow.models, "evaluate", None) or mlflow.evaluate
    result = evaluate(info.model_uri, frame, targets="y", model_type="classifier", evaluators="default")
    (record,) = [one for one in log.records[before:] if one["audit.kind"].startswith("audit.ml.")]
    assert record["audit.kind"] == "audit.ml.training.evaluated"
    assert record["ml.training.metrics"]["accuracy_score"] == result.metrics["accuracy_score"]
    assert record["ml.dataset.digest"] == digest(frame)
    assert record["ml.model.path"]
    assert record["labels"]["model_type"] == "classifier"
    assert run.info.run_id
    with pytest.raises(Exception, match=r".*"):
        mlflow.evaluate("models:/no-such-model/1", frame, targets="y", model_type="classifier")
    assert log.records[-1]["error.type"]


def test_evaluation_in_a_run_is_its_child(log: AuditLog) -> None:
    """Within a run, the evaluation names it."""
    frame = pd.DataFrame({"p": [0, 1], "y": [0, 1]})
    with mlflow.start_run() as run:
        mlflow.models.evaluate(data=frame, targets="y", predictions="p", model_type="classifier")
    (record,) = log.of("audit.ml.training.evaluated")
    assert record["ml.training.parent_run_id"] == run.info.run_id
    assert record["ml.model.name"] == "predictions"


def test_data_of_an_evaluation(log: AuditLog) -> None:
    """A frame is digested whatever its columns are called, a data set of MLflow brings its name, and so it goes on."""
    frame = pd.DataFrame({"source": [0, 1], "name": [0, 1], "digest": [1, 1]})
    mlflow.models.evaluate(data=frame, targets="source", predictions="name", model_type="classifier")
    data = mlflow.data.from_pandas(frame, name="loans", targets="source", predictions="name")
    mlflow.models.evaluate(data=data, model_type="classifier")
    first, second = log.of("audit.ml.training.evaluated")
    assert first["ml.dataset.digest"] == second["ml.dataset.digest"] == digest(frame)
    assert "ml.dataset.name" not in first
    assert second["ml.dataset.name"] == "loans"


def test_refused_run_does_not_start(hooked: Any) -> None:
    """With on_failure refuse, no run is made that could not be recorded."""
    with hooked("mlflow", policy=REFUSE) as log:
        log.fail(SpoolUnavailableError("disk full"))
        with pytest.raises(AuditRefusedError):
            mlflow.start_run()
        with pytest.raises(AuditRefusedError):
            MlflowClient().create_run("0")
        assert mlflow.active_run() is None
        log.heal()
        with mlflow.start_run():
            pass


def test_broken_hooks_harm_nobody(hooked: Any, broken: str) -> None:
    """With every hook broken on purpose, runs are made, logged into and ended as ever, and the faults are reported."""
    with hooked("mlflow", "sklearn") as log:
        mlflow.set_experiment(f"broken-{broken}")
        with mlflow.start_run() as run:
            mlflow.log_param("C", 1)
            mlflow.log_metric("auc", 0.5)
            mlflow.log_input(mlflow.data.from_numpy(X), context="training")
        assert MlflowClient().get_run(run.info.run_id).data.metrics == {"auc": 0.5}
        assert MlflowClient().get_run(run.info.run_id).info.status == "FINISHED"
        assert any("RuntimeError" in record.get("audit.failure.reason", "") for record in log.records)


def test_uninstrument_puts_the_originals_back(hooked: Any) -> None:
    """After it MLflow has its own functions again, under all of their names."""
    originals = (mlflow.start_run, MlflowClient.create_run, mlflow.models.evaluate, mlflow.evaluate)
    with hooked("mlflow"):
        assert mlflow.start_run is not originals[0]
    assert (mlflow.start_run, MlflowClient.create_run, mlflow.models.evaluate, mlflow.evaluate) == originals
    assert mlflow.tracking.fluent.start_run is originals[0]
