"""What records of training and evaluation say of a model, its data and an error, and the record of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.data.digest import digest, shape
from mlaudit.capture.models import known_models
from mlaudit.capture.models.estimators import class_name, library, number, parameters
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import current_run
from mlaudit.capture.shorten import shortened
from mlaudit.catalog.names import ML_TRAINING_EVALUATED
from mlaudit.event import AuditEvent, Target

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Outcome
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.sklearn"
# Ways of judging the very object, not clones of it.
_OF_ITSELF: Final = ("score", "scorer")


def evaluated(
    pipeline: Pipeline,
    method: str,
    estimator: Any,
    data: Any,
    target: Any,
    metrics: dict[str, Any],
    outcome: Outcome,
) -> None:
    """Records that a model was scored on data, or that this failed.

    Raises:
        AuditRefusedError: it cannot be recorded and the policy says refuse.
    """
    # Cross-validation trains clones of the estimator: what is known of the object itself does not hold for them.
    model = known_models.lookup(estimator) if method in _OF_ITSELF else known_models.NOTHING
    run = current_run.get()
    name = model.name or (run.name if run is not None else "") or type(estimator).__name__
    fields: dict[str, Any] = {
        **model_fields(estimator, name, model),
        "ml.training.method": method,
        "event.duration": outcome.duration,
    }
    if model.run_id:
        fields["ml.training.run_id"] = model.run_id
    if run is not None:
        fields["ml.training.parent_run_id"] = run.run_id
    try:
        fields |= dataset_fields(data, target)
        if method not in _OF_ITSELF and (given := parameters(estimator)):
            fields["ml.training.parameters"] = given
        found = {key: value for key, item in metrics.items() if (value := number(item)) is not None}
        if found:
            fields["ml.training.metrics"] = found
            if model.run_id:
                known_models.remember(estimator, replace(model, metrics={**model.metrics, **found}))
            if run is not None:
                run.metrics.update({key: value for key, value in found.items() if isinstance(value, float)})
    except Exception as fault:  # noqa: BLE001 - foreign data
        pipeline.fault(COMPONENT, fault)
    if outcome.error is not None:
        fields |= error_fields(outcome.error)
    target = Target("model", name)
    pipeline.emit(originate(AuditEvent(ML_TRAINING_EVALUATED, outcome.outcome, target=target, fields=fields)))


def model_fields(estimator: Any, name: str, about: known_models.Known) -> dict[str, Any]:
    """Name, class and library of a model, and the artifact it came from where that is known."""
    return class_fields(type(estimator), name, about)


def class_fields(cls: type, name: str, about: known_models.Known = known_models.NOTHING) -> dict[str, Any]:
    """As ``model_fields``, of a model that is not made yet."""
    distribution, version = library(cls)
    fields = {
        "ml.model.name": name,
        "ml.model.class": class_name(cls),
        "ml.model.library": distribution,
        "ml.model.library_version": version,
        "ml.model.version": about.version,
        "ml.model.digest": about.digest,
    }
    return {key: value for key, value in fields.items() if value}


def dataset_fields(data: Any, target: Any) -> dict[str, Any]:
    """Shape and digests of what a model was given."""
    rows, columns = shape(data)
    fields = {
        "ml.dataset.rows": rows,
        "ml.dataset.columns": columns,
        "ml.dataset.digest": digest(data) or None,
        "ml.dataset.target.digest": digest(target) or None if target is not None else None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def error_fields(error: BaseException) -> dict[str, Any]:
    """Class and message of an error; the policy's redaction scrubs the message."""
    return {"error.type": type(error).__name__, "error.message": _message(error)}


def _message(error: BaseException) -> str:
    try:
        return shortened(str(error), 2000)
    except Exception:  # noqa: BLE001 - a foreign __str__
        return "its message cannot be shown"
