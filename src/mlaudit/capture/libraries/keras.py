"""Keras (3.3 and later), with any backend: ``fit``, ``evaluate``, ``predict``, and the files of models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome
from mlaudit.capture.models import known_models, prediction
from mlaudit.capture.models.artifact_records import loading, saving
from mlaudit.capture.models.call_runs import Result, Subject, described, judging, learning
from mlaudit.capture.models.estimator_runs import dataset_fields
from mlaudit.catalog.names import (
    ML_MODEL_LOADED,
    ML_MODEL_SAVED,
    ML_PREDICTION,
    ML_TRAINING_EVALUATED,
    ML_TRAINING_STARTED,
)

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.keras"
# Names that Keras makes up itself.
_MADE_UP: Final = re.compile(r"(sequential|functional|model)(_\d+)?")
_hooks: Final = Hooks(COMPONENT)


class KerasIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "keras"
    module: ClassVar[str] = "keras"

    def instrument(self) -> None:
        """Hooks the model, and both names of ``load_model``."""
        import keras

        model = keras.Model
        _hooks.around(model, "fit", _fit, kind=ML_TRAINING_STARTED, outermost=True)
        _hooks.around(
            model, "evaluate", _evaluate, kind=ML_TRAINING_EVALUATED, outermost=True, refuse_after=True
        )
        _hooks.around(model, "predict", _predict, kind=ML_PREDICTION, outermost=True, refuse_after=True)
        _hooks.around(model, "save", _save, kind=ML_MODEL_SAVED)
        _hooks.around(model, "save_weights", _save, kind=ML_MODEL_SAVED)
        _hooks.around(model, "load_weights", _load_weights, kind=ML_MODEL_LOADED)
        for package in (keras.saving, keras.models):
            _hooks.around(package, "load_model", _load, kind=ML_MODEL_LOADED, only_here=True)
            _hooks.around(package, "save_model", _save_model, kind=ML_MODEL_SAVED, only_here=True)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _about(model: Any) -> known_models.Known:
    about = known_models.lookup(model)
    name = str(getattr(model, "name", ""))
    if about is known_models.NOTHING and name and not _MADE_UP.fullmatch(name):
        return known_models.Known(name=name)
    return about


def _subject(pipeline: Pipeline, call: Call, parameters: dict[str, Any]) -> Subject:
    model = call.instance
    data, target = call.argument(0, "x"), call.argument(1, "y")
    return Subject(
        type(model),
        call.name,
        before=_about(model),
        data=described(pipeline, COMPONENT, lambda: dataset_fields(data, target)),
        parameters=parameters | described(pipeline, COMPONENT, lambda: _settings(model)),
    )


def _settings(model: Any) -> dict[str, Any]:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {}
    import keras

    loss = getattr(model, "loss", None)
    return {
        "optimizer": type(optimizer).__name__,
        "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
        "loss": loss if isinstance(loss, str | None) else type(loss).__name__,
    }


def _fit(pipeline: Pipeline, call: Call) -> Audit:
    model = call.instance
    places = {"batch_size": 2, "epochs": 3, "validation_split": 6}
    given = {name: call.argument(place, name) for name, place in places.items()}

    def fitted(outcome: Outcome) -> Result:
        history = outcome.result.history
        last = {name: values[-1] for name, values in history.items() if values}
        return Result((model,), {"epochs": len(outcome.result.epoch), **last})

    yield from learning(pipeline, COMPONENT, _subject(pipeline, call, given), fitted, as_run=True)


def _evaluate(pipeline: Pipeline, call: Call) -> Audit:
    model = call.instance

    def judged(outcome: Outcome) -> Result:
        found = outcome.result
        if isinstance(found, dict):
            return Result(metrics=found)
        values = found if isinstance(found, list | tuple) else [found]
        return Result(metrics=dict(zip(_names(model, len(values)), values, strict=False)))

    yield from judging(pipeline, COMPONENT, _subject(pipeline, call, {}), judged)


def _names(model: Any, count: int) -> list[str]:
    names = [
        str(name)
        for metric in model.metrics
        for name in ([part.name for part in metric.metrics] if hasattr(metric, "metrics") else [metric.name])
    ]
    return names if len(names) == count else ["loss", *(f"metric_{place}" for place in range(1, count))]


def _predict(pipeline: Pipeline, call: Call) -> Audit:
    yield from prediction.predicting(pipeline, "predict", call.instance, call.argument(0, "x"))


def _save(pipeline: Pipeline, call: Call) -> Audit:
    yield from _saving(pipeline, call.instance, call.argument(0, "filepath"), call.name == "save_weights")


def _save_model(pipeline: Pipeline, call: Call) -> Audit:
    yield from _saving(pipeline, call.argument(0, "model"), call.argument(1, "filepath"), False)


def _saving(pipeline: Pipeline, model: Any, target: Any, weights: bool) -> Audit:
    labels = {"content": "weights" if weights else "model"}
    name = _about(model).name
    yield from saving(pipeline, COMPONENT, [model], target, labels=labels, name=name)


def _load(pipeline: Pipeline, call: Call) -> Audit:
    safe = call.argument(3, "safe_mode", True)
    labels = {"content": "model", "safe_mode": str(bool(safe)).lower()}
    yield from loading(
        pipeline, COMPONENT, call.argument(0, "filepath"), models=lambda model: [model], labels=labels
    )


def _load_weights(pipeline: Pipeline, call: Call) -> Audit:
    model = call.instance
    yield from loading(
        pipeline,
        COMPONENT,
        call.argument(0, "filepath"),
        models=lambda _: [model],
        cls=f"{type(model).__module__}.{type(model).__qualname__}",
        labels={"content": "weights"},
    )
