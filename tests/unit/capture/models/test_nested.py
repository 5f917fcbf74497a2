"""Instrumentations that overlap: one action of the user is one record, and ids link what belongs together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import lightgbm
import optuna
from sklearn import metrics
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlaudit
from mlaudit.testing import AuditLog

X, Y = load_breast_cancer(return_X_y=True)
STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
EVALUATED = "audit.ml.training.evaluated"
TRIAL = "audit.ml.tuning.trial"

Hooked = Callable[..., AbstractContextManager[AuditLog]]


def test_a_study_over_two_libraries_is_one_tree(hooked: Hooked, tmp_path: Path) -> None:
    """Run, study, trials, one fit for each, its predictions and scores, the file: no record twice, all ids linked."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        train, test, train_y, test_y = train_test_split(X, Y, random_state=trial.number)
        if trial.number % 2:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=trial.suggest_float("C", 0.1, 1)))
            score = model.fit(train, train_y).predict_proba(test)[:, 1]
        else:
            leaves = trial.suggest_int("leaves", 3, 8)
            params = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "num_threads": 1}
            score = lightgbm.train(params, lightgbm.Dataset(train, train_y), 5).predict(test)
        return float(metrics.roc_auc_score(test_y, score))

    with hooked("optuna", "sklearn", "lightgbm") as log, mlaudit.training_run("cancer") as run:
        study = optuna.create_study(direction="maximize")
        study.optimize(objective, n_trials=4)
        best = lightgbm.train(
            {"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, Y), 5
        )
        best.save_model(tmp_path / "cancer.txt")
    trial_kinds = [STARTED, COMPLETED, "audit.ml.prediction", EVALUATED, TRIAL]
    assert log.kinds() == [
        STARTED,
        "audit.ml.tuning.started",
        *(trial_kinds * 4),
        "audit.ml.tuning.completed",
        STARTED,
        COMPLETED,
        "audit.ml.model.saved",
        COMPLETED,
    ]
    (tuning,), trials = log.of("audit.ml.tuning.started"), log.of(TRIAL)
    assert tuning["ml.training.parent_run_id"] == run.run_id
    fits, scores = log.of(COMPLETED)[:4], log.of(EVALUATED)
    for trial, fit, score in zip(trials, fits, scores, strict=True):
        assert trial["ml.training.parent_run_id"] == tuning["ml.training.run_id"]
        assert fit["ml.training.parent_run_id"] == trial["ml.training.run_id"]
        assert score["ml.training.parent_run_id"] == trial["ml.training.run_id"]
        assert score["ml.training.run_id"] == fit["ml.training.run_id"]
        assert score["ml.training.metrics"]["roc_auc_score"] == trial["ml.training.metrics"]["value"]
    final, outer = log.of(COMPLETED)[4:]
    assert final["ml.training.parent_run_id"] == outer["ml.training.run_id"] == run.run_id
    (saved,) = log.of("audit.ml.model.saved")
    assert saved["ml.training.run_id"] == final["ml.training.run_id"]
    assert saved["ml.model.name"] == "cancer"
    starts = log.of(STARTED)
    assert len({start["ml.training.run_id"] for start in starts}) == len(starts) == 6
