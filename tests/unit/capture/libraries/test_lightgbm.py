"""LightGBM's boosters under audit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

X, Y = load_breast_cancer(return_X_y=True)
PARAMS = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4}
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
    """The records of LightGBM, scikit-learn and joblib."""
    with hooked("lightgbm", "sklearn", "joblib") as found:
        yield found


def train(rounds: int = 5, **more: Any) -> lightgbm.Booster:
    """A booster of the whole data set."""
    return lightgbm.train(PARAMS, lightgbm.Dataset(X, Y), rounds, **more)


def test_training_is_recorded_with_parameters_data_and_scores(log: AuditLog) -> None:
    """Started, then completed with rounds, best iteration and the scores on every validation set."""
    train_set = lightgbm.Dataset(X[:400], Y[:400])
    valid_set = lightgbm.Dataset(X[400:], Y[400:], reference=train_set)
    booster = lightgbm.train(
        {**PARAMS, "metric": ["binary_logloss", "auc"]},
        train_set,
        200,
        valid_sets=[valid_set],
        valid_names=["holdout"],
        callbacks=[lightgbm.early_stopping(3, verbose=False)],
    )
    assert log.kinds() == [STARTED, COMPLETED]
    (started,), (completed,) = log.of(STARTED), log.of(COMPLETED)
    assert started["ml.training.run_id"] == completed["ml.training.run_id"]
    assert started["ml.model.class"].startswith("lightgbm.")
    assert started["ml.model.library_version"] == lightgbm.__version__
    assert started["ml.training.method"] == "train"
    assert started["ml.training.parameters"]["num_boost_round"] == "200"
    assert started["ml.training.parameters"]["objective"] == "binary"
    assert (started["ml.dataset.rows"], started["ml.dataset.columns"]) == (400, 30)
    assert started["ml.dataset.digest"] == digest(X[:400])
    assert started["ml.dataset.target.digest"] == digest(Y[:400])
    metrics = completed["ml.training.metrics"]
    assert metrics["best_iteration"] == booster.best_iteration
    assert metrics["holdout_auc"] == booster.best_score["holdout"]["auc"]
    assert completed["event.duration"] > 0


def test_data_that_was_freed_before_keeps_its_digest(log: AuditLog) -> None:
    """LightGBM frees the data once it has its own form of it: the digest was taken before."""
    train_set = lightgbm.Dataset(X, Y, params=PARAMS).construct()
    assert train_set.data is None
    lightgbm.train(PARAMS, train_set, 2)
    lightgbm.train(PARAMS, train_set, 2)
    assert {record["ml.dataset.digest"] for record in log.of(COMPLETED)} == {digest(X)}
    lightgbm.train(PARAMS, train_set.subset(np.arange(100)), 2)
    assert log.of(COMPLETED)[2]["ml.dataset.rows"] == 100


def test_data_in_a_file_is_named_and_digested(log: AuditLog, tmp_path: Path) -> None:
    """A data set that LightGBM reads by itself is its file."""
    path = tmp_path / "train.csv"
    np.savetxt(path, np.column_stack([Y, X]), delimiter=",")
    lightgbm.train(PARAMS, lightgbm.Dataset(str(path)), 2)
    (record,) = log.of(COMPLETED)
    assert record["ml.dataset.uri"] == str(path)
    assert record["ml.dataset.digest"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_cross_validation_is_one_evaluation(log: AuditLog) -> None:
    """The folds are no training runs; the scores are those of the last iteration."""
    found = lightgbm.cv(PARAMS, lightgbm.Dataset(X, Y), 4, nfold=3)
    assert log.kinds() == [EVALUATED]
    (record,) = log.of(EVALUATED)
    assert record["ml.training.method"] == "cv"
    name = next(name for name in found if name.endswith("-mean"))
    assert record["ml.training.metrics"][name.replace(" ", "_")] == found[name][-1]
    assert record["ml.training.metrics"]["iterations"] == 4


def test_the_estimators_are_recorded_once(log: AuditLog) -> None:
    """A fit of LightGBM's estimator is scikit-learn's record alone, and so are its predictions and scores."""
    model = lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(X, Y)
    model.predict(X[:2])
    model.score(X, Y)
    assert log.kinds() == [STARTED, COMPLETED, PREDICTION, EVALUATED]
    assert log.of(STARTED)[0]["ml.model.class"] == "lightgbm.sklearn.LGBMClassifier"


def test_a_file_links_the_run_that_made_it_with_the_predictions_from_it(
    log: AuditLog, tmp_path: Path
) -> None:
    """Saved with digest, version and run; loaded as a match; predictions name the file's digest."""
    booster = train()
    path = tmp_path / "cancer.txt"
    assert booster.save_model(path) is booster
    again = lightgbm.Booster(model_file=str(path))
    assert np.array_equal(again.predict(X[:3]), booster.predict(X[:3]))
    (saved,), (loaded,) = log.of(SAVED), log.of(LOADED)
    on_disk = hashlib.sha256(path.read_bytes()).hexdigest()
    assert saved["ml.model.digest"] == loaded["ml.model.digest"] == on_disk
    assert saved["ml.training.run_id"] == log.of(COMPLETED)[0]["ml.training.run_id"]
    assert loaded["audit.target.id"] == saved["audit.target.id"] == "cancer@1"
    assert loaded["ml.model.registration"] == "match"
    assert loaded["ml.model.class"].endswith("Booster")
    first, second = log.of(PREDICTION)
    for record in (first, second):
        assert record["ml.model.digest"] == on_disk
        assert record["ml.prediction.input.digest"] == digest(X[:3])
        assert record["ml.prediction.rows"] == 3
    assert first["ml.prediction.output.digest"] == second["ml.prediction.output.digest"]
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    lightgbm.Booster(model_file=path)
    assert log.of(LOADED)[1]["ml.model.registration"] == "mismatch"
    joblib.dump(booster, tmp_path / "cancer.joblib")
    assert log.of(SAVED)[1]["ml.training.run_id"] == saved["ml.training.run_id"]
    lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y).booster_.save_model(tmp_path / "own.txt")
    assert log.of(SAVED)[2]["ml.training.run_id"] == log.of(COMPLETED)[1]["ml.training.run_id"]


def test_a_run_around_it_names_the_model(log: AuditLog) -> None:
    """Inside of a stated run a booster is called like the run, and adds its scores."""
    with mlaudit.training_run("cancer") as run:
        train(valid_sets=[lightgbm.Dataset(X[:50], Y[:50])]).predict(X[:1])
    inner, outer = log.of(COMPLETED)
    assert inner["ml.training.parent_run_id"] == run.run_id == outer["ml.training.run_id"]
    assert inner["ml.model.name"] == "cancer"
    assert outer["ml.training.metrics"]["valid_0_binary_logloss"] > 0
    assert log.of(PREDICTION)[0]["ml.model.name"] == "cancer"


def test_errors_are_recorded_and_raised(log: AuditLog, tmp_path: Path) -> None:
    """A training, a prediction and a file that fail, fail as ever."""
    with pytest.raises(lightgbm.basic.LightGBMError):
        lightgbm.train({**PARAMS, "objective": "no such thing"}, lightgbm.Dataset(X, Y), 2)
    (failed,) = log.of("audit.ml.training.failed")
    assert failed["error.type"] == "LightGBMError"
    with pytest.raises(lightgbm.basic.LightGBMError):
        train().predict(X[:, :3])
    assert log.of(PREDICTION)[0]["event.outcome"] == "failure"
    with pytest.raises(lightgbm.basic.LightGBMError):
        lightgbm.Booster(model_file=str(tmp_path / "missing.txt"))
    (loaded,) = log.of(LOADED)
    assert (loaded["event.outcome"], loaded["ml.model.name"]) == ("failure", "missing")


def test_what_cannot_be_recorded_does_not_happen_under_refuse(hooked: Hooked, tmp_path: Path) -> None:
    """Nothing is trained, saved, loaded or predicted when the policy wants a record and none can be stored."""
    with hooked("lightgbm", policy=REFUSE) as log:
        booster = train()
        path = tmp_path / "m.txt"
        booster.save_model(path)
        log.fail(SpoolUnavailableError("full"))
        for call in (
            train,
            lambda: booster.save_model(tmp_path / "other.txt"),
            lambda: lightgbm.Booster(model_file=path),
            lambda: booster.predict(X[:1]),
        ):
            with pytest.raises(AuditRefusedError):
                call()
        log.heal()
        assert not (tmp_path / "other.txt").exists()


def test_broken_hooks_harm_nobody(hooked: Hooked, broken: str, tmp_path: Path) -> None:
    """With every hook broken LightGBM gives what it gave; the faults are recorded."""
    expected = train().predict(X[:5])
    with hooked("lightgbm") as log:
        booster = train()
        booster.save_model(tmp_path / "m.txt")
        again = lightgbm.Booster(model_file=tmp_path / "m.txt")
        assert np.array_equal(again.predict(X[:5]), expected)
        assert lightgbm.cv(PARAMS, lightgbm.Dataset(X, Y), 2, nfold=2)
        assert any(record.get("audit.failed") for record in log.of(STARTED))
    assert "/mlaudit/capture/" not in lightgbm.train.__code__.co_filename


def test_what_cannot_be_described_costs_that_part_only(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that raises when it is digested has no digest in the record, and trains as ever."""
    from mlaudit.capture.models import dataset_facts

    def raises(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(dataset_facts, "dataset_fields", raises)
    train(2)
    (record,) = log.of(COMPLETED)
    assert "ml.dataset.digest" not in record
    assert record["ml.training.metrics"]["trees"] == 2
