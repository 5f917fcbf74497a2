"""XGBoost (2.0 and later): ``train``, ``cv``, boosters and their files.

XGBoost's estimators are scikit-learn's, and recorded there. What they do inside is theirs; their files are recorded
by the booster that reads and writes them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome
from mlaudit.capture.models import dataset_facts, known_models, prediction
from mlaudit.capture.models.artifact_records import loading, saving
from mlaudit.capture.models.call_runs import Result, Subject, described, judging, learning
from mlaudit.capture.nesting import inside
from mlaudit.catalog.names import (
    ML_MODEL_LOADED,
    ML_MODEL_SAVED,
    ML_PREDICTION,
    ML_TRAINING_EVALUATED,
    ML_TRAINING_STARTED,
)

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.xgboost"
_MATRICES: Final = ("DMatrix", "QuantileDMatrix", "ExtMemQuantileDMatrix")
_hooks: Final = Hooks(COMPONENT)


class XGBoostIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "xgboost"
    module: ClassVar[str] = "xgboost"

    def instrument(self) -> None:
        """Hooks the two functions that train, the matrices, the booster, and the files of estimators."""
        import xgboost

        booster = xgboost.Booster
        _hooks.around(xgboost, "train", _train, kind=ML_TRAINING_STARTED, outermost=True)
        _hooks.around(xgboost, "cv", _cv, kind=ML_TRAINING_EVALUATED, outermost=True)
        for name in _MATRICES:
            if hasattr(xgboost, name):
                _hooks.around(getattr(xgboost, name), "__init__", _matrix, when=_is_users)
        for name in ("predict", "inplace_predict"):
            _hooks.around(booster, name, _predict, kind=ML_PREDICTION, outermost=True, refuse_after=True)
        _hooks.around(booster, "save_model", _save, kind=ML_MODEL_SAVED)
        _hooks.around(booster, "load_model", _load, kind=ML_MODEL_LOADED, when=_is_file)
        # Without scikit-learn it has no estimators.
        estimator = getattr(xgboost, "XGBModel", None)
        if estimator is not None:
            for name in ("save_model", "load_model"):
                _hooks.around(estimator, name, _know_shell)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _is_users(_: Call) -> bool:
    return not inside.get()


def _is_file(call: Call) -> bool:
    return isinstance(call.argument(0, "fname"), str | os.PathLike)


def _matrix(pipeline: Pipeline, call: Call) -> Audit:
    # Before: nothing leads from a matrix back to the data it was made of.
    data, label = call.argument(0, "data"), call.argument(1, "label")
    fields = described(pipeline, COMPONENT, lambda: dataset_facts.source_fields(data, label))
    outcome = yield
    if outcome.error is None:
        matrix = call.instance
        dataset_facts.remember(matrix, {**fields, **_size(matrix)})


def _size(matrix: Any) -> dict[str, Any]:
    return {"ml.dataset.rows": matrix.num_row(), "ml.dataset.columns": matrix.num_col()}


def _data(matrix: Any) -> dict[str, Any]:
    found = dataset_facts.lookup(matrix)
    return _size(matrix) if found is None else found


def _subject(pipeline: Pipeline, call: Call, method: str) -> Subject:
    import xgboost

    matrix = call.argument(1, "dtrain")
    parameters = {"num_boost_round": call.argument(2, "num_boost_round", 10)}
    parameters |= described(pipeline, COMPONENT, lambda: dict(call.argument(0, "params")))
    return Subject(
        xgboost.Booster,
        method,
        before=known_models.lookup(call.kwargs.get("xgb_model")),
        data=described(pipeline, COMPONENT, lambda: _data(matrix)),
        parameters=parameters,
    )


def _train(pipeline: Pipeline, call: Call) -> Audit:
    subject = _subject(pipeline, call, "train")
    scores = call.kwargs.get("evals_result")
    if scores is None and call.kwargs.get("evals") and len(call.args) <= 3:
        # What XGBoost measures on its way, it tells only where it is asked to.
        scores = {}
        call.pass_on(len(call.args), "evals_result", scores)

    def trained(outcome: Outcome) -> Result:
        booster = outcome.result
        best = getattr(booster, "best_iteration", None)
        metrics: dict[str, Any] = {"rounds": booster.num_boosted_rounds()}
        if best is not None:
            metrics |= {"best_iteration": best, "best_score": getattr(booster, "best_score", None)}
        for data, by_metric in (scores or {}).items():
            for metric, values in by_metric.items():
                place = best if best is not None and best < len(values) else -1
                metrics[f"{data}_{metric}"] = values[place]
        return Result((booster,), metrics)

    yield from learning(pipeline, COMPONENT, subject, trained)


def _cv(pipeline: Pipeline, call: Call) -> Audit:
    yield from judging(pipeline, COMPONENT, _subject(pipeline, call, "cv"), _cross_validated)


def _cross_validated(outcome: Outcome) -> Result:
    columns = outcome.result
    last = {name: list(columns[name])[-1] for name in columns}
    rounds = max((len(columns[name]) for name in columns), default=0)
    return Result(metrics={"iterations": rounds, **last})


def _predict(pipeline: Pipeline, call: Call) -> Audit:
    data = call.argument(0, "data")
    given = dataset_facts.given(data)
    yield from prediction.predicting(pipeline, call.name, call.instance, data, given=given)


def _save(pipeline: Pipeline, call: Call) -> Audit:
    yield from saving(pipeline, COMPONENT, [call.instance], call.argument(0, "fname"))


def _load(pipeline: Pipeline, call: Call) -> Audit:
    cls = f"{type(call.instance).__module__}.{type(call.instance).__qualname__}"
    source = call.argument(0, "fname")
    yield from loading(pipeline, COMPONENT, source, models=lambda _: [call.instance], cls=cls)


def _know_shell(_: Pipeline, call: Call) -> Audit:
    """An estimator is known as the booster is that was read or written for it."""
    outcome = yield
    booster = vars(call.instance).get("_Booster")
    about = known_models.lookup(booster)
    if outcome.error is None and about is not known_models.NOTHING:
        known_models.remember(call.instance, about)
