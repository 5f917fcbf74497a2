"""``mlflow.evaluate``: one record, whatever it loads, predicts and logs inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.libraries.mlflow.loading import named
from mlaudit.capture.libraries.mlflow.state import evaluating, place_of
from mlaudit.capture.models import known_models
from mlaudit.capture.models.estimator_runs import dataset_fields, error_fields, model_fields
from mlaudit.capture.models.estimators import number
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import current_run
from mlaudit.catalog.names import ML_TRAINING_EVALUATED
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call, Hooks
    from mlaudit.capture.models.known_models import Known
    from mlaudit.pipeline.pipeline import Pipeline

MAX_METRICS: Final = 200


def hook(hooks: Hooks, mlflow: Any) -> None:
    """Sets the hook, under every name that the function has."""
    from mlflow import models
    from mlflow.models import evaluation

    original = models.evaluate
    if not hooks.around(
        models, "evaluate", _evaluate, kind=ML_TRAINING_EVALUATED, outermost=True, refuse_after=True
    ):
        return
    deprecated = getattr(evaluation, "deprecated", None)
    for owner, name in ((evaluation, "evaluate"), (mlflow, "evaluate"), (deprecated, "model_evaluate")):
        if getattr(owner, name, None) is original:
            hooks.replace(owner, name, models.evaluate)


def _evaluate(pipeline: Pipeline, call: Call) -> Audit:
    model, data = call.argument(0, "model"), call.argument(1, "data")
    token = evaluating.set(True)
    outer = current_run.get()
    try:
        outcome = yield
    finally:
        evaluating.reset(token)
    about = _about(model)
    fields = {
        **({} if model is None or isinstance(model, str) else model_fields(model, about.name, about)),
        "ml.model.name": about.name,
        "ml.model.version": about.version,
        "ml.model.path": about.path,
        "ml.training.method": "evaluate",
        "ml.training.parent_run_id": "" if outer is None else outer.run_id,
        "ml.training.run_id": about.run_id,
        "event.duration": outcome.duration,
        **_data(data, call.kwargs.get("targets")),
    }
    if kind := call.kwargs.get("model_type"):
        fields["labels"] = {"model_type": str(kind)[:256]}
    if outcome.error is not None:
        fields |= error_fields(outcome.error)
    else:
        given = list(outcome.result.metrics.items())[:MAX_METRICS]
        metrics = {str(name): found for name, value in given if (found := number(value)) is not None}
        fields["ml.training.metrics"] = metrics
        if model is not None and about is known_models.lookup(model):
            known_models.remember(model, replace(about, metrics={**about.metrics, **metrics}))
    present = {name: value for name, value in fields.items() if value not in ("", {})}
    target = Target("model", f"{about.name}@{about.version}" if about.version else about.name)
    pipeline.emit(
        originate(AuditEvent(ML_TRAINING_EVALUATED, outcome.outcome, target=target, fields=present))
    )


def _about(model: Any) -> Known:
    if isinstance(model, str):
        return named(model, "")
    about = known_models.lookup(model)
    if about.name:
        return about
    name = "predictions" if model is None else getattr(model, "__name__", type(model).__name__)
    return replace(about, name=name)


def _data(data: Any, targets: Any) -> dict[str, Any]:
    """Of what MLflow takes: a frame or an array with its target beside it, a data set of its own, or an address."""
    if isinstance(data, str):
        return {"ml.dataset.uri": place_of(data)}
    fields = {}
    # ``mlflow.data.Dataset``; a frame has for an attribute whatever its columns are called.
    if hasattr(data, "to_dict") and hasattr(data, "source") and not hasattr(data, "iloc"):
        fields["ml.dataset.name"] = str(data.name)
        data = data.df if hasattr(data, "df") else getattr(data, "features", None)
    return fields | dataset_fields(data, None if isinstance(targets, str) else targets)
