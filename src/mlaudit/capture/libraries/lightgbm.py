"""LightGBM (4.0 and later): ``train``, ``cv``, boosters and their files.

LightGBM's estimators are scikit-learn's, and recorded there. What they do inside is theirs.
"""

from __future__ import annotations

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

COMPONENT: Final = "capture.libraries.lightgbm"
_hooks: Final = Hooks(COMPONENT)


class LightGBMIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "lightgbm"
    module: ClassVar[str] = "lightgbm"

    def instrument(self) -> None:
        """Hooks the two functions that train, the data set's construction, and the booster."""
        import lightgbm

        booster = lightgbm.Booster
        _hooks.around(lightgbm, "train", _train, kind=ML_TRAINING_STARTED, outermost=True)
        _hooks.around(lightgbm, "cv", _cv, kind=ML_TRAINING_EVALUATED, outermost=True)
        _hooks.around(lightgbm.Dataset, "construct", _construct, when=_is_raw)
        _hooks.around(booster, "predict", _predict, kind=ML_PREDICTION, outermost=True, refuse_after=True)
        _hooks.around(booster, "save_model", _save, kind=ML_MODEL_SAVED)
        _hooks.around(booster, "__init__", _load, kind=ML_MODEL_LOADED, when=_is_from_file)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _is_raw(call: Call) -> bool:
    # Constructed inside of a training, it is that training's data, and described there.
    data = getattr(call.instance, "data", None)
    return data is not None and not inside.get() and dataset_facts.lookup(call.instance) is None


def _is_from_file(call: Call) -> bool:
    return call.argument(2, "model_file") is not None


def _construct(pipeline: Pipeline, call: Call) -> Audit:
    # Before: LightGBM frees the data as soon as it has its own form of it.
    described(pipeline, COMPONENT, lambda: _data(call.instance))
    yield


def _data(dataset: Any) -> dict[str, Any]:
    found = dataset_facts.lookup(dataset)
    if found is not None:
        return found
    data = dataset.data
    if data is None and dataset.used_indices is not None:
        # A part of another data set: its own digest is unknown.
        whole = {} if dataset.reference is None else _data(dataset.reference)
        columns = whole.get("ml.dataset.columns")
        return {"ml.dataset.rows": len(dataset.used_indices), "ml.dataset.columns": columns}
    if data is None:
        # Made before anybody looked.
        return {"ml.dataset.rows": dataset.num_data(), "ml.dataset.columns": dataset.num_feature()}
    found = dataset_facts.source_fields(data, dataset.label)
    dataset_facts.remember(dataset, found)
    return found


def _subject(pipeline: Pipeline, call: Call, method: str) -> Subject:
    import lightgbm

    train_set = call.argument(1, "train_set")
    parameters = {"num_boost_round": call.argument(2, "num_boost_round", 100)}
    parameters |= described(pipeline, COMPONENT, lambda: dict(call.argument(0, "params")))
    return Subject(
        lightgbm.Booster,
        method,
        before=known_models.lookup(call.kwargs.get("init_model")),
        data=described(pipeline, COMPONENT, lambda: _data(train_set)),
        parameters=parameters,
    )


def _train(pipeline: Pipeline, call: Call) -> Audit:
    yield from learning(pipeline, COMPONENT, _subject(pipeline, call, "train"), _trained)


def _trained(outcome: Outcome) -> Result:
    booster = outcome.result
    metrics: dict[str, Any] = {"trees": booster.num_trees()}
    if booster.best_iteration > 0:
        metrics["best_iteration"] = booster.best_iteration
    for data, scores in booster.best_score.items():
        metrics |= {f"{data}_{metric}": value for metric, value in scores.items()}
    return Result((booster,), metrics)


def _cv(pipeline: Pipeline, call: Call) -> Audit:
    yield from judging(pipeline, COMPONENT, _subject(pipeline, call, "cv"), _cross_validated)


def _cross_validated(outcome: Outcome) -> Result:
    found = {
        name.replace(" ", "_"): values[-1] for name, values in outcome.result.items() if name != "cvbooster"
    }
    rounds = max((len(values) for values in outcome.result.values() if isinstance(values, list)), default=0)
    return Result(metrics={"iterations": rounds, **found})


def _predict(pipeline: Pipeline, call: Call) -> Audit:
    yield from prediction.predicting(pipeline, "predict", call.instance, call.argument(0, "data"))


def _save(pipeline: Pipeline, call: Call) -> Audit:
    yield from saving(pipeline, COMPONENT, [call.instance], call.argument(0, "filename"))


def _load(pipeline: Pipeline, call: Call) -> Audit:
    import lightgbm

    cls = f"{lightgbm.Booster.__module__}.{lightgbm.Booster.__qualname__}"
    source = call.argument(2, "model_file")
    yield from loading(pipeline, COMPONENT, source, models=lambda _: [call.instance], cls=cls)
