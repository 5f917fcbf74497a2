"""MLflow's runs as training runs: what the fluent functions and any ``MlflowClient`` of this process do to them.

``MlflowClient`` creates and ends all runs, whichever the caller: ``mlflow.start_run``, autologging, a program's own
client. So a run is recorded there, once. The fluent functions only set the current run, so that training inside names
it as its parent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.hooks import refuse_unless_writable
from mlaudit.capture.libraries.mlflow.run_state import ENDS, Run
from mlaudit.capture.libraries.mlflow.state import evaluating, logging_model
from mlaudit.capture.models.estimator_runs import dataset_fields
from mlaudit.capture.models.known_models import Known
from mlaudit.capture.request_context import current_run
from mlaudit.catalog.names import ML_TRAINING_COMPLETED, ML_TRAINING_STARTED
from mlaudit.errors import AuditRefusedError
from mlaudit.safety.bounded_map import BoundedMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.hooks import Audit, Call, Hooks, MakeAudit
    from mlaudit.pipeline.pipeline import Pipeline

MAX_RUNS: Final = 1000

_runs: Final[BoundedMap[str, Run]] = BoundedMap(MAX_RUNS)
_ended: Final[BoundedMap[str, Run]] = BoundedMap(MAX_RUNS)


def known_run(run_id: str) -> Known:
    """What this process knows of a run, under way or ended here: the digest of its data, and its metrics."""
    run = _runs.get(run_id) or _ended.get(run_id)
    if run is None:
        return Known(run_id=run_id)
    digest = run.run.fields.get("ml.dataset.digest", "")
    return Known(run_id=run_id, dataset=digest, metrics=run.described())


def hook(hooks: Hooks, mlflow: Any, client: Any) -> None:
    """Sets the hooks.

    Args:
        hooks: of the integration.
        mlflow: the module.
        client: the class ``MlflowClient``.
    """
    hooks.around(
        client, "create_run", _created, kind=ML_TRAINING_STARTED, when=lambda _: not evaluating.get()
    )
    hooks.around(client, "set_terminated", _terminated, kind=ML_TRAINING_COMPLETED)
    hooks.around(client, "update_run", _updated, kind=ML_TRAINING_COMPLETED, when=_changes_status)
    for name, take in _LOGGED.items():
        hooks.around(client, name, _logged(take), when=_is_known)
    hooks.around(mlflow, "log_input", _input_given)
    hooks.around(mlflow, "start_run", _entered, kind=ML_TRAINING_STARTED)
    hooks.around(mlflow, "end_run", _left)
    hooks.around(mlflow.ActiveRun, "__exit__", _raised)
    hooks.when_undone(_runs.clear)
    hooks.when_undone(_ended.clear)


def _created(pipeline: Pipeline, call: Call) -> Audit:
    refuse_unless_writable(pipeline, ML_TRAINING_STARTED, "a run of MLflow")
    outcome = yield
    if outcome.error is None:
        _remember(call.instance, outcome.result).started(pipeline)


def _remember(client: Any, run: Any) -> Run:
    try:
        experiment = str(client.get_experiment(run.info.experiment_id).name)
    except Exception:  # noqa: BLE001 - a server that does not answer: the id is enough
        experiment = ""
    found = Run(run.info, run.data.tags, experiment)
    _runs[found.run.run_id] = found
    return found


def _terminated(pipeline: Pipeline, call: Call) -> Audit:
    return _ending(pipeline, call, call.argument(1, "status") or "FINISHED")


def _updated(pipeline: Pipeline, call: Call) -> Audit:
    return _ending(pipeline, call, call.argument(1, "status"))


def _changes_status(call: Call) -> bool:
    return call.argument(1, "status") in ENDS


def _ending(pipeline: Pipeline, call: Call, status: str) -> Audit:
    run_id = call.argument(0, "run_id")
    outcome = yield
    if outcome.error is not None or status not in ENDS:
        return
    run = _runs.pop(run_id, None)
    if run is None:
        if evaluating.get():
            return
        run = _recalled(call.instance, run_id)
    _ended[run_id] = run
    run.ended(pipeline, status)


def _recalled(client: Any, run_id: str) -> Run:
    """A run that was begun elsewhere, as the tracking server knows it."""
    found = client.get_run(run_id)
    run = _remember(client, found)
    del _runs[run_id]
    for name, value in found.data.params.items():
        run.parameter(name, value)
    for name, value in found.data.metrics.items():
        run.metric(name, value)
    return run


def _is_known(call: Call) -> bool:
    return call.argument(0, "run_id") in _runs


def _logged(take: Callable[[Run, Call], None]) -> MakeAudit:
    def audit(_: Pipeline, call: Call) -> Audit:
        outcome = yield
        run = _runs.get(call.argument(0, "run_id"))
        if outcome.error is None and run is not None:
            take(run, call)

    return audit


def _take_metric(run: Run, call: Call) -> None:
    run.metric(call.argument(1, "key"), call.argument(2, "value"))


def _take_parameter(run: Run, call: Call) -> None:
    run.parameter(call.argument(1, "key"), call.argument(2, "value"))


def _take_tag(run: Run, call: Call) -> None:
    run.tags[str(call.argument(1, "key"))] = str(call.argument(2, "value"))


def _take_batch(run: Run, call: Call) -> None:
    for metric in () if logging_model.get() else call.argument(1, "metrics") or ():
        run.metric(metric.key, metric.value)
    for parameter in call.argument(2, "params") or ():
        run.parameter(parameter.key, parameter.value)
    for tag in call.argument(3, "tags") or ():
        run.tags[tag.key] = tag.value


def _take_inputs(run: Run, call: Call) -> None:
    for given in call.argument(1, "datasets") or ():
        tags = {tag.key: tag.value for tag in given.tags}
        run.data(given.dataset, tags.get("mlflow.data.context", ""))


_LOGGED: Final = {
    "log_metric": _take_metric,
    "log_param": _take_parameter,
    "log_batch": _take_batch,
    "log_inputs": _take_inputs,
    "set_tag": _take_tag,
}


def _input_given(_: Pipeline, call: Call) -> Audit:
    """The object itself is at hand only here: its data is digested as in every other integration."""
    import mlflow

    outcome = yield
    active = mlflow.active_run()
    run = None if active is None else _runs.get(active.info.run_id)
    dataset = call.argument(0, "dataset")
    if outcome.error is None and run is not None and dataset is not None:
        data = dataset.df if hasattr(dataset, "df") else getattr(dataset, "features", None)
        target = getattr(dataset, "targets", None)
        if data is not None and run.run.fields.get("ml.dataset.name") == dataset.name:
            # A frame's targets are the name of a column.
            run.run.fields.update(dataset_fields(data, None if isinstance(target, str) else target))


def _entered(pipeline: Pipeline, _: Call) -> Audit:
    refuse_unless_writable(pipeline, ML_TRAINING_STARTED, "a run of MLflow")
    outcome = yield
    if outcome.error is not None or evaluating.get():
        return
    run = _runs.get(outcome.result.info.run_id)
    if run is None:
        import mlflow

        run = _remember(mlflow.MlflowClient(), outcome.result)
        for name, value in outcome.result.data.params.items():
            run.parameter(name, value)
        # The work has begun: nothing is refused any more.
        try:
            run.started(pipeline, resumed=True)
        except AuditRefusedError:
            return
        finally:
            _enter(run)
    else:
        _enter(run)


def _enter(run: Run) -> None:
    run.before = current_run.get()
    current_run.set(run.run)


def _left(_: Pipeline, __: Call) -> Audit:
    import mlflow

    active = mlflow.active_run()
    run = None if active is None else _runs.get(active.info.run_id)
    yield
    if run is not None and current_run.get() is run.run:
        current_run.set(run.before)


def _raised(_: Pipeline, call: Call) -> Audit:
    run = _runs.get(call.instance.info.run_id)
    if run is not None:
        run.error = call.argument(1, "exc_val")
    yield
