"""Calls that an interrupt, an exit or a cancellation ends: recorded as failures, and raised as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import lightgbm
import numpy as np
import pytest
import sklearn.model_selection
import xgboost
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV

from mlaudit.capture.nesting import inside
from mlaudit.capture.request_context import RequestTrail, current_request
from mlaudit.testing import AuditLog

X, Y = load_breast_cancer(return_X_y=True)
STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
EVALUATED = "audit.ml.training.evaluated"
PREDICTION = "audit.ml.prediction"
ENDINGS = [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit, StopIteration, MemoryError]

Hooked = Callable[..., AbstractContextManager[AuditLog]]


class Ended(ClassifierMixin, BaseEstimator):
    """A model whose method ``where`` is ended by ``error``."""

    def __init__(self, where: str = "", error: BaseException | None = None) -> None:
        self.where = where
        self.error = error

    def _end(self, where: str) -> None:
        if self.error is not None and self.where == where:
            raise self.error

    def fit(self, X: Any, y: Any = None) -> Ended:  # noqa: N803
        self._end("fit")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        self._end("predict")
        return np.zeros(len(X))

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        self._end("score")
        return 1.0


def ended(error: BaseException, call: Callable[[], Any]) -> None:
    """Makes the call, which raises the very ``error``, and leaves nothing marked as inside."""
    with pytest.raises(type(error)) as caught:
        call()
    assert caught.value is error
    assert not inside.get()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_training_that_is_ended_is_a_failed_run(log: AuditLog, ending: type[BaseException]) -> None:
    """Whatever ends a fit is recorded as a failed training and reaches the program as it was raised."""
    error = ending("stop")
    ended(error, lambda: Ended("fit", error).fit(X, Y))
    assert log.kinds() == [STARTED, FAILED]
    assert log.of(FAILED)[0]["error.type"] == ending.__name__


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_prediction_that_is_ended_is_recorded(log: AuditLog, ending: type[BaseException]) -> None:
    """In a record of its own, and in the trail of the request under way."""
    error = ending("stop")
    model = Ended("predict", error)
    ended(error, lambda: model.predict(X))
    (record,) = log.of(PREDICTION)
    assert (record["event.outcome"], record["error.type"]) == ("failure", ending.__name__)
    assert "ml.prediction.output.digest" not in record
    trail = RequestTrail()
    token = current_request.set(trail)
    ended(error, lambda: model.predict(X))
    current_request.reset(token)
    assert [(use.failed, use.error) for use in trail.models] == [(True, ending.__name__)]


# A StopIteration becomes a RuntimeError in scikit-learn's own generators.
@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending is not StopIteration])
def test_an_evaluation_that_is_ended_is_recorded(log: AuditLog, ending: type[BaseException]) -> None:
    """Of a score, a scorer and a cross-validation, which fits the model only to judge it."""
    error = ending("stop")
    ended(error, lambda: Ended("score", error).fit(X, Y).score(X, Y))
    ended(error, lambda: make_scorer(lambda truth, judged: 1.0)(Ended("predict", error).fit(X, Y), X, Y))
    # The clone that is fitted has a copy of the error.
    with pytest.raises(ending):
        sklearn.model_selection.cross_val_score(Ended("fit", error), X, Y, cv=2, error_score="raise")
    assert [record["ml.training.method"] for record in log.of(EVALUATED)] == [
        "score",
        "scorer",
        "cross_val_score",
    ]
    assert {record["event.outcome"] for record in log.of(EVALUATED)} == {"failure"}
    assert {record["error.type"] for record in log.of(EVALUATED)} == {ending.__name__}
    assert not inside.get()


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_a_search_that_is_ended_is_one_failed_run(log: AuditLog, ending: type[BaseException]) -> None:
    """Its candidates leave no records of their own."""
    search = GridSearchCV(Ended(error=ending("stop")), {"where": ["", "fit"]}, cv=2)
    with pytest.raises(ending):
        search.fit(X, Y)
    assert log.kinds() == [STARTED, FAILED]
    assert log.of(FAILED)[0]["ml.training.method"] == "search"
    assert not inside.get()


def _raises(error: BaseException) -> Callable[..., Any]:
    def callback(*_: Any, **__: Any) -> Any:
        raise error

    return callback


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_lightgbm_is_ended(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException]
) -> None:
    """Training, cross-validation and prediction by boosters."""
    error = ending("stop")
    params = {"objective": "binary", "verbose": -1, "num_threads": 1}
    with hooked("lightgbm") as log:
        booster = lightgbm.train(params, lightgbm.Dataset(X, Y), 2)
        ended(error, lambda: lightgbm.train(params, lightgbm.Dataset(X, Y), 2, callbacks=[_raises(error)]))
        ended(error, lambda: lightgbm.cv(params, lightgbm.Dataset(X, Y), 2, callbacks=[_raises(error)]))
        monkeypatch.setattr(lightgbm.basic._InnerPredictor, "predict", _raises(error))
        ended(error, lambda: booster.predict(X))
    assert log.kinds() == [STARTED, COMPLETED, STARTED, FAILED, EVALUATED, PREDICTION]
    endings = [log.records[-3], log.of(EVALUATED)[0], log.of(PREDICTION)[0]]
    assert {record["event.outcome"] for record in endings} == {"failure"}
    assert {record["error.type"] for record in endings} == {ending.__name__}


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_xgboost_is_ended(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException]
) -> None:
    """Training, cross-validation and prediction by boosters."""
    error = ending("stop")
    params = {"objective": "binary:logistic", "nthread": 1, "max_depth": 2}

    class Ending(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            raise error

    with hooked("xgboost") as log:
        matrix = xgboost.DMatrix(X, Y)
        booster = xgboost.train(params, matrix, 2)
        ended(error, lambda: xgboost.train(params, matrix, 2, callbacks=[Ending()]))
        ended(error, lambda: xgboost.cv(params, matrix, 2, nfold=2, callbacks=[Ending()]))
        with monkeypatch.context() as patch:
            patch.setattr(xgboost.Booster, "_validate_features", _raises(error))
            ended(error, lambda: booster.predict(matrix))
    assert log.kinds() == [STARTED, COMPLETED, STARTED, FAILED, EVALUATED, PREDICTION]
    endings = [log.records[-3], log.of(EVALUATED)[0], log.of(PREDICTION)[0]]
    assert {record["event.outcome"] for record in endings} == {"failure"}
    assert {record["error.type"] for record in endings} == {ending.__name__}
