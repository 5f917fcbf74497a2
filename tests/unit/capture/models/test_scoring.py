"""Searches' candidates, scorers and metric functions of scikit-learn under audit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import DecisionTreeClassifier

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.capture.models import scoring
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

X, Y = load_iris(return_X_y=True)
COMPLETED = "audit.ml.training.completed"
EVALUATED = "audit.ml.training.evaluated"
PREDICTION = "audit.ml.prediction"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""

Hooked = Callable[..., AbstractContextManager[AuditLog]]


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records of scikit-learn; a fresh budget of metric records."""
    scoring._budget.__init__()  # type: ignore[misc]
    with hooked("sklearn") as found:
        yield found


def test_a_search_tells_its_best_candidates(log: AuditLog) -> None:
    """At most ten, best first, with rank, score and parameters; how many there were is told beside."""
    grid = {"max_depth": list(range(1, 7)), "criterion": ["gini", "entropy"]}
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=3).fit(X, Y)
    (record,) = log.of(COMPLETED)
    top = record["ml.training.top_candidates"]
    assert record["ml.training.candidates"] == 12
    assert len(top) == 10
    assert top[0]["rank"] == 1
    assert top[0]["score"] == pytest.approx(search.best_score_)
    assert [one["rank"] for one in top] == sorted(one["rank"] for one in top)
    assert set(top[0]["parameters"]) == {"max_depth", "criterion"}


def test_a_search_by_several_metrics_is_ranked_by_the_one_it_refits_by(log: AuditLog) -> None:
    """The best candidate is the one that the search itself would take."""
    search = GridSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"max_depth": [1, 3]},
        cv=3,
        scoring=["accuracy", "f1_macro"],
        refit="f1_macro",
    ).fit(X, Y)
    (record,) = log.of(COMPLETED)
    best = record["ml.training.top_candidates"][0]
    assert best["parameters"] == {"max_depth": str(search.best_params_["max_depth"])}
    assert best["score"] == pytest.approx(search.best_score_)


def test_a_halving_search_counts_each_candidate_once(log: AuditLog) -> None:
    """Candidates that are tried again with more data are the same; those of the last round come first."""
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingGridSearchCV

    search = HalvingGridSearchCV(
        DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3, 4]}, cv=3, factor=2, random_state=0
    ).fit(X, Y)
    assert log.kinds() == ["audit.ml.training.started", COMPLETED]
    (record,) = log.of(COMPLETED)
    assert record["ml.training.method"] == "search"
    assert record["ml.training.candidates"] == 4
    assert record["ml.training.metrics"]["iterations"] == search.n_iterations_
    best = record["ml.training.top_candidates"][0]
    assert best["parameters"] == {"max_depth": str(search.best_params_["max_depth"])}


class OptunaSearchCV(LogisticRegression):
    """Has of optuna-integration's search what the record is made of."""

    def fit(self, X: Any, y: Any = None) -> OptunaSearchCV:  # noqa: N803
        self.trials_, self.best_params_, self.best_score_ = [1, 2, 3], {"C": 0.1}, 0.9
        return self


def test_a_search_that_asks_optuna_is_a_search(log: AuditLog) -> None:
    """Its trials are its candidates, and its study is no record beside it."""
    OptunaSearchCV().fit(X, Y)
    (record,) = log.of(COMPLETED)
    assert record["ml.training.method"] == "search"
    assert record["ml.training.candidates"] == 3
    assert record["ml.training.best_parameters"] == {"C": "0.1"}
    assert record["ml.training.best_score"] == 0.9


def test_a_scorer_is_one_evaluation_of_the_model(log: AuditLog) -> None:
    """Called by the program, it is recorded with its value and the model's run, and not the prediction inside."""
    model = LogisticRegression(max_iter=500).fit(X, Y)
    value = get_scorer("neg_log_loss")(model, X, Y)
    custom = make_scorer(sklearn.metrics.f1_score, average="macro")(model, X, Y)
    (run,) = log.of(COMPLETED)
    loss, f1 = log.of(EVALUATED)
    assert loss["ml.training.method"] == f1["ml.training.method"] == "scorer"
    assert loss["ml.training.metrics"] == {"neg_log_loss": value}
    assert f1["ml.training.metrics"] == {"f1_score": custom}
    for record in (loss, f1):
        assert record["ml.training.run_id"] == run["ml.training.run_id"]
        assert record["ml.dataset.digest"] == digest(X)
        assert record["ml.model.class"] == "sklearn.linear_model.LogisticRegression"
    assert not log.of(PREDICTION)


def test_scorers_inside_of_a_call_are_its_own(log: AuditLog) -> None:
    """Cross-validation asks scorers, which ask metric functions: one record."""
    cross_val_score(LogisticRegression(max_iter=500), X, Y, scoring="f1_macro", cv=3)
    assert log.kinds() == [EVALUATED]


def test_a_metric_names_the_model_that_made_the_prediction(log: AuditLog) -> None:
    """A metric of the array that a recorded prediction gave, or of a column of it, is that model's evaluation."""
    binary = (Y > 0).astype(int)
    model = LogisticRegression(max_iter=500).fit(X, binary)
    predicted, likely = model.predict(X), model.predict_proba(X)
    accuracy = sklearn.metrics.accuracy_score(binary, predicted)
    area = sklearn.metrics.roc_auc_score(y_true=binary, y_score=likely[:, 1])
    one, two = log.of(EVALUATED)
    assert one["ml.training.metrics"] == {"accuracy_score": accuracy}
    assert two["ml.training.metrics"] == {"roc_auc_score": area}
    assert (one["ml.training.method"], two["ml.training.method"]) == ("accuracy_score", "roc_auc_score")
    for record in (one, two):
        assert record["ml.training.run_id"] == log.of(COMPLETED)[0]["ml.training.run_id"]
        assert record["audit.target.id"] == "LogisticRegression"
        assert record["ml.dataset.target.digest"] == digest(binary)
        assert record["ml.dataset.rows"] == 150
    assert one["ml.prediction.output.digest"] == log.of(PREDICTION)[0]["ml.prediction.output.digest"]


def test_a_metric_of_unknown_arrays_is_recorded_for_itself(log: AuditLog) -> None:
    """Without a known model the metric is what was acted on."""
    value = sklearn.metrics.mean_squared_error([1.0, 2.0], [1.0, 3.0])
    (record,) = log.of(EVALUATED)
    assert record["audit.target.id"] == "mean_squared_error"
    assert record["audit.target.type"] == "metric"
    assert record["ml.training.metrics"] == {"mean_squared_error": value}
    assert record["ml.prediction.output.digest"] == digest([1.0, 3.0])


@pytest.mark.parametrize("as_dict", [True, False])
def test_a_report_is_told_without_the_classes_of_the_data(log: AuditLog, as_dict: bool) -> None:
    """Averages and accuracy are numbers of the model; names of classes are values of the data."""
    report = sklearn.metrics.classification_report(
        ["Smith", "Jones", "Smith", "Smith"], ["Smith", "Jones", "Jones", "Smith"], output_dict=as_dict
    )
    assert "Jones" in report
    (record,) = log.of(EVALUATED)
    metrics = record["ml.training.metrics"]
    assert metrics["accuracy"] == 0.75
    assert metrics["weighted_avg_precision"] == pytest.approx(0.875, abs=0.01)
    assert metrics["macro_avg_support"] == 4
    assert b"Jones" not in b"".join(log.originals)


def test_a_metric_for_each_class_has_a_number_for_each(log: AuditLog) -> None:
    """Without an average there are as many values as classes, named by their place."""
    values = sklearn.metrics.f1_score(Y, np.roll(Y, 3), average=None)
    (record,) = log.of(EVALUATED)
    assert record["ml.training.metrics"] == {f"f1_score_{place}": value for place, value in enumerate(values)}


def test_metrics_in_a_loop_are_bounded_and_the_last_one_is_kept(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a hundred in a run the last record says so, and the run's own record has the last value."""
    monkeypatch.setattr(scoring, "MAX_RECORDS", 3)
    with mlaudit.training_run("loop"):
        for place in range(10):
            sklearn.metrics.accuracy_score([1] * 10, [1] * place + [0] * (10 - place))
    records = log.of(EVALUATED)
    assert len(records) == 3
    assert "event.reason" not in records[1]
    assert "the last of each" in records[2]["event.reason"]
    assert log.of(COMPLETED)[0]["ml.training.metrics"] == {"accuracy_score": 0.9}
    for _ in range(5):
        sklearn.metrics.accuracy_score([1], [1])
    outside = log.of(EVALUATED)[3:]
    assert len(outside) == 3
    assert "in a minute" in outside[2]["event.reason"]
    monkeypatch.setattr(scoring._budget, "_since", -1e9)
    sklearn.metrics.accuracy_score([1], [1])
    assert len(log.of(EVALUATED)) == 7


def test_a_metric_that_fails_is_recorded_and_raised(log: AuditLog) -> None:
    """What scikit-learn refuses is refused as ever."""
    with pytest.raises(ValueError, match="inconsistent"):
        sklearn.metrics.accuracy_score([1, 2], [1])
    (record,) = log.of(EVALUATED)
    assert (record["event.outcome"], record["error.type"]) == ("failure", "ValueError")


def test_metric_functions_still_pickle(log: AuditLog) -> None:
    """A scorer made of one can be sent to a worker."""
    function = sklearn.metrics.accuracy_score
    assert pickle.loads(pickle.dumps(function)) is function
    assert pickle.loads(pickle.dumps(make_scorer(function)))(LogisticRegression().fit(X, Y), X, Y) > 0.9


def test_a_metric_that_cannot_be_recorded_is_not_given_out_under_refuse(hooked: Hooked) -> None:
    """As with a score: the policy wants a record of it."""
    with hooked("sklearn", policy=REFUSE) as log:
        log.fail(SpoolUnavailableError("full"))
        with pytest.raises(AuditRefusedError):
            sklearn.metrics.accuracy_score([1], [1])
        log.heal()


def test_broken_hooks_harm_nobody(hooked: Hooked, broken: str) -> None:
    """With every hook broken scorers and metrics give what they gave; the faults are recorded."""
    model = LogisticRegression(max_iter=500).fit(X, Y)
    expected = get_scorer("accuracy")(model, X, Y)
    with hooked("sklearn") as log:
        assert get_scorer("accuracy")(model, X, Y) == expected
        assert sklearn.metrics.accuracy_score(Y, model.predict(X)) == expected
        assert any(record.get("audit.failed") for record in log.of(EVALUATED))
    assert "/mlaudit/capture/" not in sklearn.metrics.accuracy_score.__code__.co_filename


def test_data_that_cannot_be_described_costs_its_digests_only(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metric is recorded, without what could not be told."""

    def raises(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(scoring, "digest", raises)
    assert sklearn.metrics.accuracy_score([1], [1]) == 1.0
    (record,) = log.of(EVALUATED)
    assert record["ml.training.metrics"] == {"accuracy_score": 1.0}
    assert "ml.dataset.target.digest" not in record
