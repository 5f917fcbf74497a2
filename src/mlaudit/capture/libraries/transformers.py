"""transformers (4.40 and later): the ``Trainer``, pipelines, and the folders of pretrained models."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.data.digest import digest
from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome
from mlaudit.capture.libraries.torch import loader_fields
from mlaudit.capture.models import known_models, prediction
from mlaudit.capture.models.artifact_records import loading, saving
from mlaudit.capture.models.call_runs import Result, Subject, described, judging, learning
from mlaudit.capture.models.estimator_runs import class_fields, error_fields
from mlaudit.capture.models.estimators import class_name
from mlaudit.capture.models.prediction import Given
from mlaudit.capture.origin import originate
from mlaudit.catalog.names import (
    ML_MODEL_LOADED,
    ML_MODEL_SAVED,
    ML_PREDICTION,
    ML_TRAINING_EVALUATED,
    ML_TRAINING_STARTED,
)
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.transformers"
_SETTINGS: Final = (
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "weight_decay",
    "warmup_steps",
    "lr_scheduler_type",
    "optim",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "seed",
    "bf16",
    "fp16",
)
_SNAPSHOT: Final = re.compile(r"/snapshots/([0-9a-f]{40})/")
_hooks: Final = Hooks(COMPONENT)


class TransformersIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "transformers"
    module: ClassVar[str] = "transformers"

    def instrument(self) -> None:
        """Hooks each part once the program imports it: the package itself imports nothing."""
        _hooks.when_imported("transformers.trainer", _hook_trainer)
        _hooks.when_imported("transformers.modeling_utils", _hook_models)
        _hooks.when_imported("transformers.pipelines.base", _hook_pipelines)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _hook_trainer(module: Any) -> None:
    trainer = module.Trainer
    _hooks.around(trainer, "train", _train, kind=ML_TRAINING_STARTED, outermost=True)
    _hooks.around(
        trainer, "evaluate", _evaluate, kind=ML_TRAINING_EVALUATED, outermost=True, refuse_after=True
    )
    _hooks.around(trainer, "predict", _predict, kind=ML_PREDICTION, outermost=True, refuse_after=True)


def _hook_models(module: Any) -> None:
    model = module.PreTrainedModel
    _hooks.around(model, "save_pretrained", _save, kind=ML_MODEL_SAVED)
    _hooks.around(model, "from_pretrained", _load, kind=ML_MODEL_LOADED)


def _hook_pipelines(module: Any) -> None:
    _hooks.around(module.Pipeline, "__call__", _pipe, kind=ML_PREDICTION, outermost=True, refuse_after=True)


def _subject(pipeline: Pipeline, call: Call, data: Any) -> Subject:
    trainer = call.instance
    parameters = {name: getattr(trainer.args, name, None) for name in _SETTINGS}
    return Subject(
        type(trainer.model),
        call.name,
        before=known_models.lookup(trainer.model),
        data=described(pipeline, COMPONENT, lambda: loader_fields(data)),
        parameters=parameters,
    )


def _train(pipeline: Pipeline, call: Call) -> Audit:
    trainer = call.instance

    def trained(outcome: Outcome) -> Result:
        metrics: dict[str, Any] = {"steps": outcome.result.global_step}
        # What was logged on the way, the evaluations inside of the run among it: the last of each.
        for line in (*trainer.state.log_history, outcome.result.metrics):
            metrics |= line
        return Result((trainer.model,), metrics)

    subject = _subject(pipeline, call, trainer.train_dataset)
    yield from learning(pipeline, COMPONENT, subject, trained, as_run=True)


def _evaluate(pipeline: Pipeline, call: Call) -> Audit:
    given = call.argument(0, "eval_dataset")
    data = call.instance.eval_dataset if given is None else given
    yield from judging(
        pipeline, COMPONENT, _subject(pipeline, call, data), lambda outcome: Result(metrics=outcome.result)
    )


def _predict(pipeline: Pipeline, call: Call) -> Audit:
    data = _subject(pipeline, call, call.argument(0, "test_dataset")).data
    given = Given(
        data.get("ml.dataset.digest", ""), data.get("ml.dataset.rows"), data.get("ml.dataset.columns")
    )
    yield from prediction.predicting(pipeline, "predict", call.instance.model, None, given=given)


def _pipe(pipeline: Pipeline, call: Call) -> Audit:
    pipe, data = call.instance, call.argument(0, "inputs")
    method = str(getattr(pipe, "task", "") or type(pipe).__name__)
    rows = len(data) if isinstance(data, list) else 1
    found = described(pipeline, COMPONENT, lambda: {"digest": digest(data if rows > 1 else [data])})
    given = Given(found.get("digest", ""), rows)
    yield from prediction.predicting(pipeline, method, pipe.model, data, given=given)


def _save(pipeline: Pipeline, call: Call) -> Audit:
    model, folder = call.instance, call.argument(0, "save_directory")
    labels = {"content": "pretrained"}
    yield from saving(pipeline, COMPONENT, [model], folder, labels=labels, name=type(model).__name__)


def _load(pipeline: Pipeline, call: Call) -> Audit:
    cls, source = call.instance, call.argument(0, "pretrained_model_name_or_path")
    labels = {"content": "pretrained"}
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):  # noqa: PTH112 - either of the two
        yield from loading(
            pipeline, COMPONENT, source, models=lambda model: [model], cls=class_name(cls), labels=labels
        )
        return
    outcome = yield
    if source is not None:
        _from_hub(pipeline, cls, str(source), call.kwargs, outcome)


def _from_hub(pipeline: Pipeline, cls: type, name: str, kwargs: dict[str, Any], outcome: Outcome) -> None:
    """A name of the Hub: its version is the commit that transformers has in its cache."""
    found: dict[str, Any] = {}
    if outcome.error is None:
        found = described(pipeline, COMPONENT, lambda: {"commit": _commit(name, kwargs)})
    commit = str(found.get("commit", ""))
    fields = {
        **class_fields(cls if outcome.error is not None else type(outcome.result), name),
        "ml.model.path": name,
        "labels": {"content": "pretrained", "source": "hub"},
    }
    if commit:
        fields["ml.model.version"] = commit
    if outcome.error is not None:
        fields |= error_fields(outcome.error)
    else:
        known_models.loaded(outcome.result, known_models.Known(name, commit, path=name))
    target = Target("model", f"{name}@{commit}" if commit else name)
    pipeline.emit(originate(AuditEvent(ML_MODEL_LOADED, outcome.outcome, target=target, fields=fields)))


def _commit(name: str, kwargs: dict[str, Any]) -> str:
    from transformers.utils import CONFIG_NAME, cached_file

    where = {key: kwargs[key] for key in ("cache_dir", "revision", "subfolder") if kwargs.get(key)}
    file = cached_file(name, CONFIG_NAME, local_files_only=True, **where)
    found = _SNAPSHOT.search(Path(file or "").as_posix())
    return found[1] if found else ""
