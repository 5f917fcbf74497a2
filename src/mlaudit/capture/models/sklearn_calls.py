"""What happens around one call of a hooked method: the guard, the record, and the original call.

Every function here takes the original method, its name, the estimator and the call's arguments, returns what the
original returns and raises what it raises, and besides only ``AuditRefusedError``.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from mlaudit.capture.models import prediction
from mlaudit.capture.models.estimator_runs import COMPONENT, Training, evaluated
from mlaudit.capture.models.estimators import FOREIGN, MODEL, role, score_name
from mlaudit.capture.nesting import inside
from mlaudit.catalog.names import ML_TRAINING_STARTED
from mlaudit.errors import AuditRefusedError
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.pipeline.pipeline import Pipeline


def fit(
    original: Callable[..., Any], name: str, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``fit`` and its relatives: started, then completed or failed.

    Raises:
        AuditRefusedError: that it starts cannot be recorded and the policy says refuse; nothing was trained.
    """
    return _outermost(_fit, original, name, self, args, kwargs)


def predict(
    original: Callable[..., Any], name: str, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``predict`` and its relatives: see ``prediction.predict``."""
    return _outermost(prediction.predict, original, name, self, args, kwargs)


def score(
    original: Callable[..., Any], name: str, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``score``: one evaluation record with the value."""
    return _outermost(_score, original, name, self, args, kwargs)


def _outermost(
    audited: Callable[..., Any],
    original: Callable[..., Any],
    name: str,
    self: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Calls ``audited(pipeline, original, name, estimator, args, kwargs)`` for a user's own call of a model.

    A call inside of another, of an estimator that is no model, or of a process that is not audited is the
    original's alone.
    """
    if inside.get():
        return original(self, *args, **kwargs)
    token = inside.set(True)
    try:
        pipeline = current.pipeline() if role(type(self)) == MODEL else None
        if pipeline is None:
            return original(self, *args, **kwargs)
        return audited(pipeline, original, name, self, args, kwargs)
    finally:
        inside.reset(token)


def _fit(
    pipeline: Pipeline,
    original: Callable[..., Any],
    name: str,
    estimator: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    training = _begin(pipeline, name, estimator, args, kwargs)
    if training is None:
        return original(estimator, *args, **kwargs)
    try:
        result = original(estimator, *args, **kwargs)
    except BaseException as error:
        _contain(pipeline, functools.partial(training.failed, error))
        raise
    _contain(pipeline, training.completed)
    return result


def _score(
    pipeline: Pipeline,
    original: Callable[..., Any],
    name: str,
    estimator: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    data, target = _data_and_target(args, kwargs)
    return _evaluate(pipeline, lambda: original(estimator, *args, **kwargs), name, estimator, data, target)


def _begin(
    pipeline: Pipeline, name: str, estimator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Training | None:
    data, target = _data_and_target(args, kwargs)
    method = "partial_fit" if name == "partial_fit" else "fit"
    try:
        training = Training(pipeline, method, estimator, data, target)
        training.start()
    except AuditRefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - auditing never breaks the training
        pipeline.fault(COMPONENT, error, kind=ML_TRAINING_STARTED, outcome="unknown")
        return None
    return training


def prepare(
    original: Callable[..., Any], name: str, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """No record, and none for what it does inside: an imputer may fit a regressor for every column."""
    if inside.get() or role(type(self)) == FOREIGN:
        return original(self, *args, **kwargs)
    token = inside.set(True)
    try:
        return original(self, *args, **kwargs)
    finally:
        inside.reset(token)


def _evaluate(
    pipeline: Pipeline, call: Callable[[], Any], name: str, estimator: Any, data: Any, target: Any
) -> Any:
    begun = time.perf_counter_ns()
    try:
        result = call()
    except Exception as error:
        duration = time.perf_counter_ns() - begun
        tell = functools.partial(evaluated, pipeline, name, estimator, data, target, {}, duration, error)
        _contain(pipeline, tell)
        raise
    duration = time.perf_counter_ns() - begun
    _contain(
        pipeline,
        lambda: evaluated(
            pipeline, name, estimator, data, target, _metrics(name, estimator, result), duration
        ),
        refuse=True,
    )
    return result


def _metrics(name: str, estimator: Any, result: Any) -> dict[str, Any]:
    if name == "cross_validate":
        scores = {
            key.removeprefix("test_"): values for key, values in result.items() if key.startswith("test_")
        }
        return {f"{part}_{key}": value for key, values in scores.items() for part, value in _spread(values)}
    if name == "cross_val_score":
        return {f"{part}_score": value for part, value in _spread(result)}
    if name == "permutation_test_score":
        return {"score": result[0], "p_value": result[2]}
    return {score_name(estimator): result} if name == "score" else {}


def _spread(values: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("mean", values.mean()), ("std", values.std())


def _contain(pipeline: Pipeline, tell: Callable[[], None], *, refuse: bool = False) -> None:
    try:
        tell()
    except AuditRefusedError:
        # Otherwise counted by the pipeline, which says so in a record as soon as it can write again.
        if refuse:
            raise
    except Exception as error:  # noqa: BLE001 - auditing never breaks the service
        pipeline.fault(COMPONENT, error)


def _data_and_target(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    data = args[0] if args else kwargs.get("X")
    return data, args[1] if len(args) > 1 else kwargs.get("y")


def evaluation(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    """``cross_val_score`` and its relatives, which train many models only to judge them: one evaluation record."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        estimator = args[0] if args else kwargs.get("estimator")
        if inside.get() or role(type(estimator)) == FOREIGN:
            return original(*args, **kwargs)
        token = inside.set(True)
        try:
            pipeline = current.pipeline()
            if pipeline is None:
                return original(*args, **kwargs)
            data, target = _data_and_target(args[1:], kwargs)
            return _evaluate(pipeline, lambda: original(*args, **kwargs), name, estimator, data, target)
        finally:
            inside.reset(token)

    return wrapper
