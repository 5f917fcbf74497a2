"""What records of training and evaluation say, and that a fault of ours never reaches the training."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from mlaudit.capture.data.digest import digest
from mlaudit.capture.models import call_runs, sklearn_calls
from mlaudit.capture.nesting import inside
from mlaudit.capture.request_context import TrainingRun, current_actor, current_run
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.event import Actor

if TYPE_CHECKING:
    from mlaudit.testing import AuditLog

X, Y = load_iris(return_X_y=True)
STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
FAILED = "audit.ml.training.failed"
EVALUATED = "audit.ml.training.evaluated"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""


class Stubborn(ClassifierMixin, BaseEstimator):
    """Fails on demand."""

    def __init__(self, error: BaseException | None = None, secret: Any = None) -> None:
        self.error = error
        self.secret = secret

    def fit(self, X: Any, y: Any = None) -> Stubborn:  # noqa: N803
        if self.error is not None:
            raise self.error
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return np.zeros(len(X))

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        return math.nan


def test_a_run_says_what_was_trained_with_what_on_what(log: AuditLog) -> None:
    """Class, library, parameters of every step, shapes, digests and duration are in the record."""
    model = Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression(C=0.5))])
    model.fit(X, Y)
    record = log.of(COMPLETED)[0]
    assert record["ml.model.class"] == "sklearn.pipeline.Pipeline"
    assert record["ml.model.library"] == "scikit-learn"
    assert record["ml.model.library_version"].startswith("1.")
    assert record["ml.training.method"] == "fit"
    assert record["ml.training.parameters"]["clf__C"] == "0.5"
    assert record["ml.training.parameters"]["steps"] == "scale: StandardScaler, clf: LogisticRegression"
    assert (record["ml.dataset.rows"], record["ml.dataset.columns"]) == X.shape
    assert record["ml.dataset.digest"] == digest(X)
    assert record["ml.dataset.target.digest"] == digest(Y)
    assert record["ml.training.duration"] == record["event.duration"] > 0
    assert record["audit.target.id"] == "Pipeline"


def test_keyword_arguments_are_seen(log: AuditLog) -> None:
    """Data given by name is described like data given by place."""
    LogisticRegression(max_iter=500).fit(y=Y, X=X)
    assert log.of(STARTED)[0]["ml.dataset.target.digest"] == digest(Y)


def test_a_search_tells_candidates_best_parameters_and_scores(log: AuditLog) -> None:
    """One record tells how many candidates were tried and what the best one scored."""
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0, 10.0]}, cv=2).fit(X, Y)
    record = log.of(COMPLETED)[0]
    assert record["ml.training.method"] == "search"
    assert record["ml.training.candidates"] == 3
    assert record["ml.training.best_parameters"] == {"C": str(search.best_params_["C"])}
    assert record["ml.training.best_score"] == pytest.approx(search.best_score_)
    assert record["ml.training.metrics"]["mean_test_score"] == pytest.approx(search.best_score_)


def test_search_whose_scores_are_nan_is_recorded(log: AuditLog) -> None:
    """NaN is no JSON number: a best score that is NaN is told as text."""
    GridSearchCV(Stubborn(), {"secret": [1, 2]}, cv=2).fit(X, Y)
    record = log.of(COMPLETED)[0]
    assert "audit.failed" not in record
    assert "ml.training.best_score" not in record
    assert record["ml.training.metrics"]["best_score"] == "nan"


def test_score_is_an_evaluation_with_a_named_metric(log: AuditLog) -> None:
    """A classifier's score is its accuracy, a regressor's its R², a search's what its scorer is called."""
    classifier = LogisticRegression(max_iter=500).fit(X, Y)
    value = classifier.score(X, Y)
    LinearRegression().fit(X, Y).score(X, Y)
    GridSearchCV(LogisticRegression(max_iter=500), {}, cv=2, scoring="f1_macro").fit(X, Y).score(X, Y)
    records = log.of(EVALUATED)
    assert records[0]["ml.training.metrics"] == {"accuracy": value}
    assert records[0]["ml.training.run_id"] == log.of(COMPLETED)[0]["ml.training.run_id"]
    assert [list(record["ml.training.metrics"]) for record in records[1:]] == [["r2"], ["f1_macro"]]


def test_nan_metric_is_text(log: AuditLog) -> None:
    """A score of NaN is recorded as the text nan."""
    assert math.isnan(Stubborn().fit(X, Y).score(X, Y))
    assert log.of(EVALUATED)[0]["ml.training.metrics"] == {"score": "nan"}


def test_cross_validation_metrics(auditing: Any) -> None:
    """Mean and spread over the folds are recorded for every scorer, and no run is claimed for the clones."""
    with auditing() as log:
        import sklearn.model_selection as package

        model = LogisticRegression(max_iter=500).fit(X, Y)
        result = package.cross_validate(model, X, Y, cv=3, scoring=("accuracy", "f1_macro"))
    record = log.of(EVALUATED)[0]
    assert record["ml.training.metrics"]["mean_accuracy"] == pytest.approx(result["test_accuracy"].mean())
    assert set(record["ml.training.metrics"]) == {
        "mean_accuracy",
        "std_accuracy",
        "mean_f1_macro",
        "std_f1_macro",
    }
    assert "ml.training.run_id" not in record


def test_failure_is_recorded_and_raised_unchanged(log: AuditLog) -> None:
    """The caller gets the very exception, and the record its class and its message without secrets."""
    error = ValueError("cannot reach postgres://bob:hunter2secret@db/x")
    with pytest.raises(ValueError) as caught:
        Stubborn(error).fit(X, Y)
    assert caught.value is error
    record = log.of(FAILED)[0]
    assert record["event.outcome"] == "failure"
    assert record["error.type"] == "ValueError"
    assert "cannot reach" in record["error.message"]
    assert "hunter2secret" not in json.dumps(record)


def test_interrupted_training_is_a_failed_run(log: AuditLog) -> None:
    """Ctrl-C during a fit is told, and goes on to end the program."""
    with pytest.raises(KeyboardInterrupt):
        Stubborn(KeyboardInterrupt()).fit(X, Y)
    assert log.of(FAILED)[0]["error.type"] == "KeyboardInterrupt"
    assert not inside.get()


def test_partial_fit_is_one_run_that_goes_on(log: AuditLog) -> None:
    """Batches of one model share a run id: one start, a completion per batch."""
    model = SGDClassifier(random_state=0)
    for _ in range(3):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    assert log.kinds() == [STARTED, COMPLETED, COMPLETED, COMPLETED]
    assert len({record["ml.training.run_id"] for record in log.of(COMPLETED)}) == 1
    assert log.of(COMPLETED)[0]["ml.training.method"] == "partial_fit"


def test_stated_run_gives_name_parent_and_data_set(log: AuditLog) -> None:
    """A library call inside a stated run is its child, named as the run says."""
    run = TrainingRun("run-1", "iris", fields={"ml.dataset.name": "iris-2026"})
    token = current_run.set(run)
    try:
        LogisticRegression(max_iter=500).fit(X, Y).score(X, Y)
    finally:
        current_run.reset(token)
    completed, evaluated = log.of(COMPLETED)[0], log.of(EVALUATED)[0]
    assert completed["ml.training.parent_run_id"] == evaluated["ml.training.parent_run_id"] == "run-1"
    assert completed["ml.model.name"] == evaluated["ml.model.name"] == "iris"
    assert completed["ml.dataset.name"] == "iris-2026"
    assert run.metrics["accuracy"] > 0.9


def test_actor_of_the_context_is_the_actor(auditing: Any) -> None:
    """Whoever is stated to act is recorded as the one who trained."""
    with auditing(REFUSE) as log:
        token = current_actor.set(Actor("alice"))
        try:
            LogisticRegression(max_iter=500).fit(X, Y)
        finally:
            current_actor.reset(token)
        alice = log.pipeline.policy.pseudonyms.of("alice")
        assert {record["audit.actor.id"] for record in (*log.of(STARTED), *log.of(COMPLETED))} == {alice}


def test_refused_training_does_not_start(auditing: Any) -> None:
    """With on_failure refuse, a run that cannot be recorded is not begun."""
    with auditing(REFUSE) as log:
        log.fail(SpoolUnavailableError("disk full"))
        model = Stubborn()
        with pytest.raises(AuditRefusedError):
            model.fit(X, Y)
        assert not hasattr(model, "fitted_")
        log.heal()
        assert model.fit(X, Y).fitted_
    assert not inside.get()


def test_result_is_not_taken_away_when_the_end_cannot_be_recorded(auditing: Any) -> None:
    """Once trained, the model is the caller's, even under refuse; the loss is told later."""
    with auditing(REFUSE) as log:

        class Unplugging(Stubborn):
            def fit(self, X: Any, y: Any = None) -> Any:  # noqa: N803
                log.fail(SpoolUnavailableError("disk full"))
                return super().fit(X, y)

        assert Unplugging().fit(X, Y).fitted_
        log.heal()
        assert log.pipeline.counts.refused == 1


@pytest.mark.parametrize(
    "secret",
    [
        float("nan"),
        b"\x00\xff",
        (circle := [1], circle.append(circle))[0],
        type("Rude", (), {"__repr__": lambda self: 1 / 0})(),
        np.arange(1000),
        "x" * 10_000,
        lambda: None,
        object(),
    ],
    ids=["nan", "bytes", "circular", "rude repr", "array", "long text", "function", "object"],
)
def test_any_parameter_can_be_recorded(log: AuditLog, secret: Any) -> None:
    """Whatever somebody passes as a parameter becomes a short text."""
    Stubborn(secret=secret).fit(X, Y)
    record = log.of(COMPLETED)[0]
    assert "audit.failed" not in record
    assert len(json.dumps(record)) < 6000


@pytest.mark.parametrize("data", [None, "text", b"bytes", object(), [[math.nan]], {"a": 1}, [["a", 1]]])
def test_any_data_can_be_recorded(log: AuditLog, data: Any) -> None:
    """Data of any type reaches the estimator and makes a record."""
    Stubborn().fit(data, None)
    assert log.kinds() == [STARTED, COMPLETED]


def test_estimator_without_the_expected_attributes(log: AuditLog) -> None:
    """An estimator that breaks scikit-learn's conventions is trained and recorded all the same."""

    class Odd(BaseEstimator):
        def __init__(self, *args: Any) -> None:
            self.args = args

        def fit(self, rows: Any) -> Odd:
            return self

        def predict(self, rows: Any) -> Any:
            return rows

        def get_params(self, deep: bool = True) -> Any:
            raise AttributeError("no parameters")

    assert Odd(1, 2).fit([[1.0]])
    assert log.kinds() == [STARTED, COMPLETED]
    assert "ml.training.parameters" not in log.of(COMPLETED)[0]


@pytest.mark.parametrize(
    ("module", "place"),
    [
        (sklearn_calls, "learning"),
        (sklearn_calls, "dataset_fields"),
        (sklearn_calls, "_trained"),
        (sklearn_calls, "parameters"),
        (call_runs, "class_fields"),
        (call_runs, "numbers"),
    ],
)
def test_broken_hook_harms_nobody(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch, module: Any, place: str
) -> None:
    """With any part of the hook broken on purpose the model is trained, and the trail tells the fault."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(module, place, broken)
    assert Stubborn().fit(X, Y).fitted_
    failed = [record for record in log.records if record.get("audit.failure.reason")]
    assert failed
    assert "RuntimeError" in failed[0]["audit.failure.reason"]
    assert not inside.get()
