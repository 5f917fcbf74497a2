"""MLflow around Optuna around MLflow around scikit-learn and LightGBM: one run with children, recorded once each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm
import mlflow
import numpy as np
import optuna
import pytest
import xgboost
from sklearn.linear_model import LogisticRegression

from mlaudit.capture.models import known_models
from mlaudit.capture.request_context import current_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlaudit.testing import AuditLog

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
TRIALS = 2

pytestmark = [pytest.mark.usefixtures("store"), pytest.mark.filterwarnings("ignore")]


def family(log: AuditLog) -> dict[str, str]:
    """Run → the run that it belongs to, "" for one that belongs to none; every record of a run must agree."""
    found: dict[str, set[str]] = {}
    for record in log.records:
        if "ml.training.run_id" in record and record["audit.kind"].startswith(
            ("audit.ml.training.", "audit.ml.tuning.")
        ):
            parents = found.setdefault(record["ml.training.run_id"], set())
            parents.add(record.get("ml.training.parent_run_id", ""))
    assert all(len(parents) == 1 for parents in found.values())
    return {run: parents.pop() for run, parents in found.items()}


def kinds_of(log: AuditLog, run: str) -> list[str]:
    """What happened to one run, in order."""
    return [
        record["audit.kind"].removeprefix("audit.ml.")
        for record in log.records
        if record.get("ml.training.run_id") == run and record["audit.kind"] != "audit.ml.model.saved"
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_pipeline_of_four_libraries_is_one_family(hooked: Any, jobs: int) -> None:
    """Every run names the one around it, from the fit up to the outer run, and nothing is recorded twice."""

    def objective(trial: optuna.Trial) -> float:
        with mlflow.start_run(nested=jobs == 1, run_name=f"trial-{trial.number}"):
            c = trial.suggest_float("C", 0.1, 1.0)
            mlflow.log_param("C", c)
            model = LogisticRegression(C=c).fit(X, Y)
            lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, Y), 2)
            score = float(np.mean(model.predict(X) == Y))
            mlflow.log_metric("accuracy", score)
        return score

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with hooked("mlflow", "optuna", "sklearn", "lightgbm") as log:
        with mlflow.start_run(run_name="search") as outer:
            study = optuna.create_study(direction="maximize")
            study.optimize(objective, n_trials=TRIALS, n_jobs=jobs)
            mlflow.log_metric("best", study.best_value)
        parents = family(log)
    root = outer.info.run_id
    children: Callable[[str], list[str]] = lambda run: [one for one in parents if parents[one] == run]  # noqa: E731
    assert [run for run, parent in parents.items() if not parent] == [root]
    (search,) = children(root)
    assert kinds_of(log, root) == ["training.started", "training.completed"]
    assert kinds_of(log, search) == ["tuning.started", "tuning.completed"]
    trials = children(search)
    assert len(trials) == TRIALS
    for trial in trials:
        assert kinds_of(log, trial) == ["tuning.trial"]
        (run,) = children(trial)
        assert kinds_of(log, run) == ["training.started", "training.completed"]
        fits = children(run)
        assert len(fits) == 2
        for fit in fits:
            assert children(fit) == []
            assert kinds_of(log, fit)[:2] == ["training.started", "training.completed"]
    completed = [
        record for record in log.of("audit.ml.training.completed") if record["audit.target.type"] == "run"
    ]
    assert sorted(record["audit.target.id"] for record in completed) == ["search", "trial-0", "trial-1"]
    for record in completed[:TRIALS]:
        assert "accuracy" in record["ml.training.metrics"]
        assert "C" in record["ml.training.parameters"]
    assert current_run.get() is None


def test_logged_and_registered_model_leads_back_to_its_data(hooked: Any) -> None:
    """From the version in the registry to the digest, to the run, to the fit and to the data: ids all the way."""
    with hooked("mlflow", "sklearn") as log:
        with mlflow.start_run() as run:
            model = LogisticRegression().fit(X, Y)
            mlflow.sklearn.log_model(
                model,
                "model",
                registered_model_name="lineage",
                serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
            )
        client = mlflow.MlflowClient()
        client.set_registered_model_alias("lineage", "champion", "1")
        mlflow.pyfunc.load_model("models:/lineage@champion").predict(X)
    saved = log.of("audit.ml.model.saved")[0]
    promoted = log.of("audit.ml.model.promoted")[0]
    loaded = log.of("audit.ml.model.loaded")[0]
    predicted = log.of("audit.ml.prediction")[0]
    fit = next(one for one in log.of("audit.ml.training.completed") if one["ml.training.method"] == "fit")
    for record in (saved, promoted, loaded, predicted):
        assert record["ml.model.digest"] == saved["ml.model.digest"]
        assert record["ml.training.run_id"] == run.info.run_id
    for record in (promoted, loaded, predicted):
        assert record["audit.target.id"] == "lineage@1"
    assert fit["ml.training.parent_run_id"] == run.info.run_id
    assert len(fit["ml.dataset.digest"]) == 64


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_boosters_in_mlflow_are_saved_and_loaded_once(hooked: Any, library: str, tmp_path: Path) -> None:
    """The file of the booster is a part of MLflow's folder: one record for each save and load, one for the answer."""
    flavor = getattr(mlflow, library)
    estimators = {"lightgbm": lightgbm.LGBMClassifier, "xgboost": xgboost.XGBClassifier}
    with hooked("mlflow", "sklearn", library) as log:
        booster = {
            "lightgbm": lambda: lightgbm.train({"verbose": -1}, lightgbm.Dataset(X, Y), 2),
            "xgboost": lambda: xgboost.train({}, xgboost.DMatrix(X, Y), 2),
        }[library]()
        estimator = estimators[library](n_estimators=2).fit(X, Y)
        for place, model in (("a", booster), ("b", estimator)):
            before = len(log.records)
            flavor.save_model(model, tmp_path / place)
            with mlflow.start_run():
                flavor.log_model(model, "model", registered_model_name=f"{library}-{place}")
            loaded = flavor.load_model(f"models:/{library}-{place}/1")
            shell = mlflow.pyfunc.load_model(str(tmp_path / place))
            shell.predict(X)
            kinds = [record["audit.kind"].removeprefix("audit.ml.") for record in log.records[before:]]
            assert [kind for kind in kinds if kind.startswith("model.") or kind == "prediction"] == [
                "model.saved",
                "model.saved",
                "model.registered",
                "model.registered",
                "model.loaded",
                "model.loaded",
                "prediction",
            ]
            assert known_models.lookup(loaded).name == f"{library}-{place}"


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_autologged_boosters_are_a_run_with_one_training(hooked: Any, library: str) -> None:
    """Autologging makes a run around the training, saves the model once, and asks it nothing that is recorded."""
    flavor = getattr(mlflow, library)
    with hooked("mlflow", "sklearn", library) as log:
        flavor.autolog(silent=True, log_input_examples=True)
        try:
            if library == "lightgbm":
                lightgbm.train({"verbose": -1}, lightgbm.Dataset(X, Y), 2)
            else:
                xgboost.train({}, xgboost.DMatrix(X, Y), 2)
        finally:
            flavor.autolog(disable=True, silent=True)
    run, training = log.of("audit.ml.training.started")
    assert training["ml.training.parent_run_id"] == run["ml.training.run_id"]
    assert len(log.of("audit.ml.training.completed")) == 2
    assert len(log.of("audit.ml.model.saved")) == 1
    assert log.of("audit.ml.model.saved")[0]["ml.training.run_id"] == run["ml.training.run_id"]
    assert log.of("audit.ml.prediction") == []
    assert log.of("audit.ml.model.loaded") == []
