"""What a prediction leaves in a request's trail or in a record of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlaudit.capture.data.digest import digest
from mlaudit.capture.models import prediction
from mlaudit.capture.models.prediction import shown
from mlaudit.capture.request_context import RequestTrail, current_request
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlaudit.testing import AuditLog

X, Y = load_iris(return_X_y=True)
KIND = "audit.ml.prediction"
POLICY = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules:
  - {name: only, level: %s, on_failure: %s}
"""


class Echo(ClassifierMixin, BaseEstimator):
    """Gives back what it gets, and spoils its input."""

    def fit(self, X: Any, y: Any = None) -> Echo:  # noqa: N803
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        result = X.copy() if hasattr(X, "copy") else X
        if isinstance(X, np.ndarray):
            X[:] = -1
        return result


@pytest.fixture
def trail() -> Iterator[RequestTrail]:
    """A request under way."""
    found = RequestTrail()
    token = current_request.set(found)
    yield found
    current_request.reset(token)


@pytest.fixture
def model() -> LogisticRegression:
    """A trained model."""
    return LogisticRegression(max_iter=500).fit(X, Y)


def test_record_of_a_batch(model: LogisticRegression, log: AuditLog) -> None:
    """Outside of a request a prediction is a record with shapes, digests and duration, without the data."""
    result = model.predict_proba(X)
    record = log.of(KIND)[0]
    assert record["ml.prediction.method"] == "predict_proba"
    assert record["ml.prediction.batch"] is True
    assert (record["ml.prediction.rows"], record["ml.prediction.features"]) == X.shape
    assert record["ml.prediction.input.digest"] == digest(X)
    assert record["ml.prediction.output.digest"] == digest(result)
    assert record["audit.guarantee"] == "buffered"
    assert "ml.prediction.input" not in record


def test_single_row_is_no_batch(model: LogisticRegression, log: AuditLog) -> None:
    """A prediction of one row is not called a batch."""
    model.predict(X[:1])
    assert log.of(KIND)[0]["ml.prediction.batch"] is False


def test_input_is_digested_before_the_model_sees_it(log: AuditLog) -> None:
    """A model that changes its input in place does not change the record of it."""
    data = X.copy()
    Echo().predict(data)
    assert log.of(KIND)[0]["ml.prediction.input.digest"] == digest(X)


def test_inside_a_request_the_trail_gets_the_answer(
    model: LogisticRegression, log: AuditLog, trail: RequestTrail
) -> None:
    """Within a request no record is made: the request's own record will carry the model's answer."""
    result = model.predict(X[:2])
    assert log.of(KIND) == []
    (use,) = trail.models
    assert (use.name, use.method, use.rows, use.features) == ("LogisticRegression", "predict", 2, 4)
    assert use.cls == "sklearn.linear_model.LogisticRegression"
    assert (use.input_digest, use.output_digest) == (digest(X[:2]), digest(result))
    assert use.duration_ns is not None
    assert not use.failed


def test_closed_trail_is_not_written_into(
    model: LogisticRegression, log: AuditLog, trail: RequestTrail
) -> None:
    """A background task that outlives its request makes records of its own."""
    trail.closed = True
    model.predict(X[:2])
    assert trail.models == []
    assert len(log.of(KIND)) == 1


def test_failing_prediction(model: LogisticRegression, log: AuditLog, trail: RequestTrail) -> None:
    """A model that raises is recorded as failed, in the trail and on its own, and the error goes on."""
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :2])
    assert (trail.models[0].failed, trail.models[0].error) == (True, "ValueError")
    trail.closed = True
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :2])
    record = log.of(KIND)[0]
    assert record["event.outcome"] == "failure"
    assert record["error.type"] == "ValueError"
    assert "ml.prediction.output.digest" not in record


@pytest.mark.parametrize(
    ("level", "has_input", "has_output"), [("metadata", 0, 0), ("inputs", 1, 0), ("full", 1, 1)]
)
def test_values_only_when_the_policy_asks(auditing: Any, level: str, has_input: int, has_output: int) -> None:
    """Inputs are in the record from level inputs on, outputs at level full, in both ways of recording."""
    with auditing(POLICY % (level, "continue")) as log:
        Echo().predict([[1.5, math.nan]])
        record = log.of(KIND)[0]
        request = RequestTrail()
        token = current_request.set(request)
        Echo().predict([[1.5, math.nan]])
        current_request.reset(token)
    assert record.get("ml.prediction.input") == ([[1.5, "nan"]] if has_input else None)
    assert record.get("ml.prediction.output") == ([[1.5, "nan"]] if has_output else None)
    assert bool(request.models[0].inputs) == bool(has_input)
    assert bool(request.models[0].outputs) == bool(has_output)


def test_level_none_makes_no_record(auditing: Any) -> None:
    """What the policy leaves out is left out."""
    with auditing(POLICY % ("none", "continue")) as log:
        Echo().predict([[1.0]])
        assert log.of(KIND) == []


def test_prediction_that_cannot_be_recorded_is_not_given_out_under_refuse(auditing: Any) -> None:
    """With on_failure refuse a batch prediction without a record is refused."""
    with auditing(POLICY % ("metadata", "refuse")) as log:
        log.fail(SpoolUnavailableError("disk full"))
        with pytest.raises(AuditRefusedError):
            Echo().predict([[1.0]])
        log.heal()


@pytest.mark.parametrize("broken", ["digest", "shape", "_use", "_show", "_event_of"])
@pytest.mark.parametrize("inside", [True, False])
def test_broken_hook_harms_nobody(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch, trail: RequestTrail, broken: str, inside: bool
) -> None:
    """With any part of the hook broken on purpose the prediction is given, and the trail tells the fault."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    trail.closed = not inside
    monkeypatch.setattr(prediction, broken, fail)
    assert (Echo().predict([[1.0]])) == [[1.0]]
    concerned = not (inside and broken == "_event_of")  # a request makes no event of its own for it
    assert (
        any("RuntimeError" in record.get("audit.failure.reason", "") for record in log.records) == concerned
    )


def _circular() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        "text",
        None,
        object(),
        _circular(),
        {"a": {"b": {"c": {"d": {"e": 1}}}}},
        [[math.inf]],
        1 << 80,
    ],
)
def test_any_input_can_be_recorded_at_full_level(auditing: Any, data: Any) -> None:
    """Whatever a model is asked with, the record is made and is no failed one."""
    with auditing(POLICY % ("full", "continue")) as log:
        Echo().predict(data)
        (record,) = log.of(KIND)
    assert "audit.failed" not in record


def test_shown_values() -> None:
    """Shown data is cut to a few rows and values, and is plain JSON."""
    assert shown(np.arange(100).reshape(50, 2))[-1] == "…"
    assert len(shown(np.arange(100).reshape(50, 2))) == 21
    assert shown(pd.DataFrame({"a": [1.0, math.nan], "b": ["x", None]}))[0] == {"a": 1.0, "b": "x"}
    assert shown(pd.Series([1, 2])) == [1, 2]
    assert shown(sparse.csr_matrix([[0, 1]])) == [[0, 1]]
    assert shown(np.array(3.5)) == 3.5
    assert shown(["a" * 1000])[0].endswith("…")
    assert shown([np.float32(0.5)]) == [0.5]
    assert len(str(shown([list(range(10_000))]))) < 2000
    assert shown(object()) == "<object>"
