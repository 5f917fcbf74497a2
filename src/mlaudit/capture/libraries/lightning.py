"""Lightning (2.2 and later), as ``lightning`` and as ``pytorch_lightning``: the calls of a ``Trainer``.

``fit`` is a run, and the checkpoints that are saved inside are of it; ``validate`` and ``test`` are evaluations,
``predict`` a prediction. Metrics are those that the module logs.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome
from mlaudit.capture.libraries.torch import loader_fields
from mlaudit.capture.models import known_models, prediction
from mlaudit.capture.models.artifact_records import loading, saving
from mlaudit.capture.models.call_runs import Result, Subject, described, judging, learning
from mlaudit.capture.models.estimators import class_name
from mlaudit.capture.models.prediction import Given
from mlaudit.catalog.names import (
    ML_MODEL_LOADED,
    ML_MODEL_SAVED,
    ML_PREDICTION,
    ML_TRAINING_EVALUATED,
    ML_TRAINING_STARTED,
)

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.lightning"
_SETTINGS: Final = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")


class LightningIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "lightning"
    module: ClassVar[str] = "lightning.pytorch"
    _hooks: ClassVar[Hooks] = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the trainer, and the way from a checkpoint to a module."""
        package = sys.modules[self.module]
        hooks, trainer = self._hooks, package.Trainer
        hooks.around(trainer, "fit", _fit, kind=ML_TRAINING_STARTED, outermost=True)
        for name in ("validate", "test"):
            hooks.around(trainer, name, _judge, kind=ML_TRAINING_EVALUATED, outermost=True, refuse_after=True)
        hooks.around(trainer, "predict", _predict, kind=ML_PREDICTION, outermost=True, refuse_after=True)
        hooks.around(trainer, "save_checkpoint", _save, kind=ML_MODEL_SAVED)
        found = inspect.getattr_static(package.LightningModule, "load_from_checkpoint")
        if hasattr(found, "method"):
            # A descriptor of Lightning's own around the function.
            hooks.around(found, "method", _load, kind=ML_MODEL_LOADED)
        else:
            hooks.around(package.LightningModule, "load_from_checkpoint", _load, kind=ML_MODEL_LOADED)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        self._hooks.undo()


class PytorchLightningIntegration(LightningIntegration):
    """The same library under its other name."""

    name: ClassVar[str] = "pytorch-lightning"
    module: ClassVar[str] = "pytorch_lightning"
    _hooks: ClassVar[Hooks] = Hooks(COMPONENT)


def _subject(pipeline: Pipeline, call: Call, loader: Any) -> Subject:
    trainer = call.instance
    model = _model(call)
    parameters = {name: getattr(trainer, name, None) for name in _SETTINGS}
    parameters |= described(pipeline, COMPONENT, lambda: dict(getattr(model, "hparams", {})))
    found = (loader, call.kwargs.get("datamodule"), getattr(trainer, "datamodule", None))
    # By identity: a loader of unknown length raises when it is asked whether it is true.
    data = next((one for one in found if one is not None), None)
    return Subject(
        type(model),
        call.name,
        before=known_models.lookup(model),
        data=described(pipeline, COMPONENT, lambda: loader_fields(data)),
        parameters=parameters,
    )


def _model(call: Call) -> Any:
    given = call.argument(0, "model")
    return getattr(call.instance, "lightning_module", None) if given is None else given


def _fit(pipeline: Pipeline, call: Call) -> Audit:
    trainer, model = call.instance, call.argument(0, "model")
    subject = _subject(pipeline, call, call.argument(1, "train_dataloaders"))

    def fitted(_: Outcome) -> Result:
        metrics = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
        # Older versions catch Ctrl-C and return, newer ones exit.
        reason = "interrupted" if trainer.interrupted else ""
        return Result((model,), {**metrics, **trainer.callback_metrics}, reason)

    yield from learning(pipeline, COMPONENT, subject, fitted, as_run=True)


def _judge(pipeline: Pipeline, call: Call) -> Audit:
    yield from judging(
        pipeline, COMPONENT, _subject(pipeline, call, call.argument(1, "dataloaders")), _judged
    )


def _judged(outcome: Outcome) -> Result:
    return Result(metrics={name: value for found in outcome.result for name, value in found.items()})


def _predict(pipeline: Pipeline, call: Call) -> Audit:
    subject = _subject(pipeline, call, call.argument(1, "dataloaders"))
    model = _model(call)
    given = Given(
        subject.data.get("ml.dataset.digest", ""),
        subject.data.get("ml.dataset.rows"),
        subject.data.get("ml.dataset.columns"),
    )
    yield from prediction.predicting(pipeline, "predict", model, None, given=given)


def _save(pipeline: Pipeline, call: Call) -> Audit:
    model = getattr(call.instance, "lightning_module", None)
    if model is not None:
        target = call.argument(0, "filepath")
        labels = {"content": "checkpoint"}
        name = type(model).__name__
        yield from saving(pipeline, COMPONENT, [model], target, labels=labels, name=name)


def _load(pipeline: Pipeline, call: Call) -> Audit:
    # A class method: the class comes first, or is what the hook is bound to.
    cls, source = (call.instance, call.argument(0, "checkpoint_path"))
    if cls is None:
        cls, source = call.argument(0, "cls"), call.argument(1, "checkpoint_path")
    labels = {"content": "checkpoint"}
    yield from loading(
        pipeline, COMPONENT, source, models=lambda model: [model], cls=class_name(cls), labels=labels
    )
