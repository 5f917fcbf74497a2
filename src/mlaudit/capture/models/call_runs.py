"""Audits of libraries that train by one call: started before, completed or failed after, and what came of it.

For ``yield from`` in an audit of ``hooks``. The promise of ``on_failure: refuse`` is kept before the training, and
nothing has been trained. After it nothing is refused: the model exists, and taking it away would lose hours, not
prevent anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.models import known_models
from mlaudit.capture.models.estimator_runs import class_fields, error_fields
from mlaudit.capture.models.estimators import MAX_PARAMETERS, number, text
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import TrainingRun, current_run
from mlaudit.catalog.names import (
    ML_TRAINING_COMPLETED,
    ML_TRAINING_EVALUATED,
    ML_TRAINING_FAILED,
    ML_TRAINING_STARTED,
)
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target, new_record_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlaudit.capture.hooks import Audit, Outcome
    from mlaudit.pipeline.pipeline import Pipeline

MAX_METRICS: Final = 200


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained or judged.

    Attributes:
        cls: class of the model.
        method: ``ml.training.method``.
        before: what was known of it.
        data: ``ml.dataset.*`` fields.
        parameters: by name; shown as short texts.
        goes_on: id of the run that this call goes on with and does not start; "" for a run of its own.
    """

    cls: type
    method: str
    before: known_models.Known = known_models.NOTHING
    data: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    goes_on: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it.

    Attributes:
        models: the trained objects, of which the run is remembered.
        metrics: numbers by name.
        reason: why it ended, where that is not as usual.
        counts: metrics that are whole numbers and recorded as such.
        fields: what else the record says.
    """

    models: tuple[Any, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def learning(
    pipeline: Pipeline,
    component: str,
    subject: Subject,
    result: Callable[[Outcome], Result],
    *,
    as_run: bool = False,
) -> Audit:
    """The audit of a call that trains.

    Args:
        pipeline: of this process.
        component: names the integration in records of faults.
        subject: what is trained.
        result: says what came of a call that ended well.
        as_run: it is the current run of what happens inside, e.g. of files that it saves.

    Raises:
        AuditRefusedError: that it starts cannot be recorded and the policy says refuse; nothing was trained.
    """
    outer = current_run.get()
    given = (outer.name if outer is not None else "") or subject.before.name
    run_id = subject.goes_on or new_record_id()
    run = TrainingRun(run_id, given, parent_run_id=outer.run_id if outer is not None else "")
    fields = {**_fields(subject, given, outer), "ml.training.run_id": run_id}
    run.fields = {name: value for name, value in fields.items() if name.startswith("ml.dataset.")}
    target = Target("model", given or subject.cls.__name__)
    if not subject.goes_on:
        pipeline.emit(originate(AuditEvent(ML_TRAINING_STARTED, SUCCESS, target=target, fields=dict(fields))))
    token = current_run.set(run) if as_run else None
    try:
        outcome = yield
    finally:
        if token is not None:
            current_run.reset(token)
    fields |= {"ml.training.duration": outcome.duration, "event.duration": outcome.duration}
    if outcome.error is not None:
        fields |= error_fields(outcome.error)
        pipeline.emit(originate(AuditEvent(ML_TRAINING_FAILED, FAILURE, target=target, fields=fields)))
        return
    found = _found(pipeline, component, outcome, result)
    fields |= found.fields
    measured = described(pipeline, component, lambda: dict(numbers(found.metrics)))
    metrics = {**run.metrics, **measured, **found.counts}
    if metrics:
        fields["ml.training.metrics"] = metrics
    if found.reason:
        fields["event.reason"] = found.reason
    entry = known_models.Known(
        name=given, run_id=run_id, dataset=fields.get("ml.dataset.digest", ""), metrics=metrics
    )
    for model in found.models:
        known_models.remember(model, entry)
    _add_metrics(outer, metrics)
    pipeline.emit(originate(AuditEvent(ML_TRAINING_COMPLETED, SUCCESS, target=target, fields=fields)))


def judging(
    pipeline: Pipeline, component: str, subject: Subject, result: Callable[[Outcome], Result]
) -> Audit:
    """The audit of a call that judges a model, or models that it trains only to judge them.

    Raises:
        AuditRefusedError: it cannot be recorded and the policy says refuse; only for hooks with ``refuse_after``.
    """
    outer = current_run.get()
    given = subject.before.name or (outer.name if outer is not None else "")
    fields = _fields(subject, given, outer)
    if subject.before.run_id:
        fields["ml.training.run_id"] = subject.before.run_id
    outcome = yield
    fields["event.duration"] = outcome.duration
    if outcome.error is not None:
        fields |= error_fields(outcome.error)
    else:
        metrics = _found(pipeline, component, outcome, result).metrics
        found = described(pipeline, component, lambda: dict(numbers(metrics)))
        if found:
            fields["ml.training.metrics"] = found
            _add_metrics(outer, found)
    target = Target("model", given or subject.cls.__name__)
    pipeline.emit(originate(AuditEvent(ML_TRAINING_EVALUATED, outcome.outcome, target=target, fields=fields)))


def described(pipeline: Pipeline, component: str, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``describe`` gives, else nothing: a part that cannot be described costs that part, not the record."""
    try:
        return describe()
    except Exception as error:  # noqa: BLE001 - models and data are foreign objects
        pipeline.fault(component, error)
        return {}


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | str]:
    """What of ``metrics`` are numbers; at most ``MAX_METRICS``."""
    found = {str(name): number(value) for name, value in list(metrics.items())[:MAX_METRICS]}
    return {name: value for name, value in found.items() if value is not None}


def _fields(subject: Subject, given: str, outer: TrainingRun | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **class_fields(subject.cls, given or subject.cls.__name__),
        "ml.training.method": subject.method,
    }
    if outer is not None:
        fields["ml.training.parent_run_id"] = outer.run_id
        fields |= {name: value for name, value in outer.fields.items() if name.startswith("ml.dataset.")}
    fields |= {name: value for name, value in subject.data.items() if value not in (None, "")}
    parameters = {
        str(name): text(value)
        for name, value in list(subject.parameters.items())[:MAX_PARAMETERS]
        if value is not None
    }
    if parameters:
        fields["ml.training.parameters"] = parameters
    return fields


def _found(
    pipeline: Pipeline, component: str, outcome: Outcome, result: Callable[[Outcome], Result]
) -> Result:
    try:
        return result(outcome)
    except Exception as error:  # noqa: BLE001 - see described
        pipeline.fault(component, error)
        return Result()


def _add_metrics(run: TrainingRun | None, metrics: Mapping[str, float | str]) -> None:
    if run is not None:
        run.metrics.update({name: value for name, value in metrics.items() if isinstance(value, float)})
