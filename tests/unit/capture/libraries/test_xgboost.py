"""XGBoost's boosters under audit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

X, Y = load_breast_cancer(return_X_y=True)
PARAMS = {"objective": "binary:logistic", "nthread": 1, "max_depth": 2}
STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
EVALUATED = "audit.ml.training.evaluated"
PREDICTION = "audit.ml.prediction"
SAVED = "audit.ml.model.saved"
LOADED = "audit.ml.model.loaded"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""

Hooked = Callable[..., AbstractContextManager[AuditLog]]


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records of XGBoost, scikit-learn and joblib."""
    with hooked("xgboost", "sklearn", "joblib") as found:
        yield found


def train(rounds: int = 4, **more: Any) -> xgboost.Booster:
    """A booster of the whole data set."""
    return xgboost.train(PARAMS, xgboost.DMatrix(X, Y), rounds, **more)


def test_training_is_recorded_with_parameters_data_and_scores(log: AuditLog) -> None:
    """Started, then completed with rounds, and the scores of the best iteration on every set that is watched."""
    watched: dict[str, Any] = {}
    matrix, holdout = xgboost.DMatrix(X[:400], label=Y[:400]), xgboost.DMatrix(X[400:], Y[400:])
    booster = xgboost.train(
        {**PARAMS, "eval_metric": ["logloss", "auc"]},
        matrix,
        100,
        evals=[(holdout, "holdout")],
        early_stopping_rounds=3,
        evals_result=watched,
        verbose_eval=False,
    )
    assert log.kinds() == [STARTED, COMPLETED]
    (started,), (completed,) = log.of(STARTED), log.of(COMPLETED)
    assert started["ml.training.run_id"] == completed["ml.training.run_id"]
    assert started["ml.model.class"] == "xgboost.core.Booster"
    assert started["ml.model.library_version"] == xgboost.__version__
    assert started["ml.training.method"] == "train"
    assert started["ml.training.parameters"]["num_boost_round"] == "100"
    assert started["ml.training.parameters"]["objective"] == "binary:logistic"
    assert (started["ml.dataset.rows"], started["ml.dataset.columns"]) == (400, 30)
    assert started["ml.dataset.digest"] == digest(X[:400])
    assert started["ml.dataset.target.digest"] == digest(Y[:400])
    metrics = completed["ml.training.metrics"]
    assert metrics["best_iteration"] == booster.best_iteration
    assert metrics["holdout_logloss"] == watched["holdout"]["logloss"][booster.best_iteration]
    assert metrics["rounds"] == booster.num_boosted_rounds()


def test_scores_are_told_where_the_program_does_not_ask_for_them(log: AuditLog) -> None:
    """Watched sets have their last scores in the record, without ``evals_result`` too."""
    matrix = xgboost.DMatrix(X, Y)
    xgboost.train(PARAMS, matrix, 3, evals=[(matrix, "train")], verbose_eval=False)
    assert 0 < log.of(COMPLETED)[0]["ml.training.metrics"]["train_logloss"] < 1


def test_every_kind_of_matrix_keeps_the_digest_of_its_source(log: AuditLog) -> None:
    """Quantile matrices, and slices with their size alone."""
    xgboost.train(PARAMS, xgboost.QuantileDMatrix(X, Y), 2)
    xgboost.train(PARAMS, xgboost.DMatrix(X, Y).slice(list(range(100))), 2)
    whole, part = log.of(COMPLETED)
    assert whole["ml.dataset.digest"] == digest(X)
    assert part["ml.dataset.rows"] == 100
    assert "ml.dataset.digest" not in part


def test_cross_validation_is_one_evaluation(log: AuditLog) -> None:
    """The folds are no training runs; the scores are those of the last round, whether a frame or a dict."""
    found = xgboost.cv(PARAMS, xgboost.DMatrix(X, Y), 3, nfold=3, as_pandas=False)
    frame = xgboost.cv(PARAMS, xgboost.DMatrix(X, Y), 3, nfold=3)
    assert log.kinds() == [EVALUATED, EVALUATED]
    first, second = log.of(EVALUATED)
    assert first["ml.training.method"] == "cv"
    assert first["ml.training.metrics"]["test-logloss-mean"] == found["test-logloss-mean"][-1]
    assert second["ml.training.metrics"]["test-logloss-mean"] == frame["test-logloss-mean"].iloc[-1]
    assert second["ml.training.metrics"]["iterations"] == 3


def test_the_estimators_are_recorded_once(log: AuditLog) -> None:
    """A fit of XGBoost's estimator is scikit-learn's record alone, and so are its predictions and scores."""
    model = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(X, Y)
    model.predict(X[:2])
    model.score(X, Y)
    assert log.kinds() == [STARTED, COMPLETED, PREDICTION, EVALUATED]
    assert log.of(STARTED)[0]["ml.model.class"] == "xgboost.sklearn.XGBClassifier"


def test_a_file_links_the_run_that_made_it_with_the_predictions_from_it(
    log: AuditLog, tmp_path: Path
) -> None:
    """Saved with digest, version and run; loaded as a match; predictions name the file's digest."""
    booster = train()
    path = tmp_path / "cancer.json"
    booster.save_model(path)
    again = xgboost.Booster(model_file=str(path))
    assert np.array_equal(again.predict(xgboost.DMatrix(X[:3])), booster.inplace_predict(X[:3]))
    (saved,), (loaded,) = log.of(SAVED), log.of(LOADED)
    on_disk = hashlib.sha256(path.read_bytes()).hexdigest()
    assert saved["ml.model.digest"] == loaded["ml.model.digest"] == on_disk
    assert saved["ml.training.run_id"] == log.of(COMPLETED)[0]["ml.training.run_id"]
    assert loaded["audit.target.id"] == saved["audit.target.id"] == "cancer@1"
    assert loaded["ml.model.registration"] == "match"
    assert loaded["ml.model.class"] == "xgboost.core.Booster"
    first, second = log.of(PREDICTION)
    assert (first["ml.prediction.method"], second["ml.prediction.method"]) == ("predict", "inplace_predict")
    for record in (first, second):
        assert record["ml.model.digest"] == on_disk
        assert record["ml.prediction.input.digest"] == digest(X[:3])
        assert (record["ml.prediction.rows"], record["ml.prediction.features"]) == (3, 30)
    assert first["ml.prediction.output.digest"] == second["ml.prediction.output.digest"]
    joblib.dump(booster, tmp_path / "cancer.joblib")
    assert log.of(SAVED)[1]["ml.training.run_id"] == saved["ml.training.run_id"]


def test_files_of_estimators_are_told_once(log: AuditLog, tmp_path: Path) -> None:
    """An estimator saves and loads through its booster: one record, and the estimator is known from then on."""
    model = xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(X, Y)
    path = tmp_path / "shell.ubj"
    model.save_model(path)
    again = xgboost.XGBClassifier()
    again.load_model(path)
    again.predict(X[:1])
    model.predict(X[:1])
    assert log.kinds() == [STARTED, COMPLETED, SAVED, LOADED, PREDICTION, PREDICTION]
    assert log.of(SAVED)[0]["ml.training.run_id"] == log.of(COMPLETED)[0]["ml.training.run_id"]
    for record in log.of(PREDICTION):
        assert record["audit.target.id"] == "shell@1"
        assert record["ml.model.class"] == "xgboost.sklearn.XGBClassifier"


def test_a_run_around_it_names_the_model(log: AuditLog) -> None:
    """Inside of a stated run a booster is called like the run."""
    with mlaudit.training_run("cancer") as run:
        train()
    inner, outer = log.of(COMPLETED)
    assert inner["ml.training.parent_run_id"] == run.run_id == outer["ml.training.run_id"]
    assert inner["ml.model.name"] == "cancer"


def test_errors_are_recorded_and_raised(log: AuditLog, tmp_path: Path) -> None:
    """A training and a file that fail, fail as ever."""
    with pytest.raises(xgboost.core.XGBoostError):
        xgboost.train({**PARAMS, "objective": "no such thing"}, xgboost.DMatrix(X, Y), 2)
    assert log.of("audit.ml.training.failed")[0]["error.type"] == "XGBoostError"
    with pytest.raises(xgboost.core.XGBoostError):
        xgboost.Booster().load_model(tmp_path / "missing.json")
    (loaded,) = log.of(LOADED)
    assert (loaded["event.outcome"], loaded["ml.model.name"]) == ("failure", "missing")
    with pytest.raises(TypeError):
        xgboost.train(PARAMS)


def test_what_cannot_be_recorded_does_not_happen_under_refuse(hooked: Hooked, tmp_path: Path) -> None:
    """Nothing is trained, saved, loaded or predicted when the policy wants a record and none can be stored."""
    with hooked("xgboost", policy=REFUSE) as log:
        booster = train()
        path = tmp_path / "m.json"
        booster.save_model(path)
        log.fail(SpoolUnavailableError("full"))
        for call in (
            train,
            lambda: booster.save_model(tmp_path / "other.json"),
            lambda: xgboost.Booster(model_file=path),
            lambda: booster.inplace_predict(X[:1]),
        ):
            with pytest.raises(AuditRefusedError):
                call()
        log.heal()
        assert not (tmp_path / "other.json").exists()


def test_broken_hooks_harm_nobody(hooked: Hooked, broken: str, tmp_path: Path) -> None:
    """With every hook broken XGBoost gives what it gave; the faults are recorded."""
    expected = train().inplace_predict(X[:5])
    with hooked("xgboost") as log:
        booster = train()
        booster.save_model(tmp_path / "m.json")
        again = xgboost.Booster(model_file=tmp_path / "m.json")
        assert np.array_equal(again.inplace_predict(X[:5]), expected)
        assert xgboost.cv(PARAMS, xgboost.DMatrix(X, Y), 2, nfold=2) is not None
        assert log.pipeline.counts.faults > 4
        assert log.of("audit.pipeline.failure")
    assert "/mlaudit/capture/" not in xgboost.train.__code__.co_filename
