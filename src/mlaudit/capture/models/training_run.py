"""``mlaudit.training_run``: a training run that the program declares."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self

from mlaudit.capture.context import Setting, current_pipeline
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import TrainingRun, current_run
from mlaudit.catalog.names import (
    ML_MODEL_SAVED,
    ML_TRAINING_COMPLETED,
    ML_TRAINING_FAILED,
    ML_TRAINING_STARTED,
)
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target, new_record_id

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from mlaudit.capture.models.artifact_register import Previous
    from mlaudit.capture.models.known_models import Known
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "api"


class training_run:  # noqa: N801 - used like a function: with mlaudit.training_run("fraud") as run:
    """Records a training run that no library hook sees: one's own loop, a library without hooks, an experiment.

    ::

        with mlaudit.training_run("fraud", parameters={"lr": 0.01}, purpose="monthly retraining") as run:
            run.dataset(rows, labels, name="transactions-2026-11")
            for epoch in range(10):
                run.log_metric("loss", step(epoch))
            run.artifact("models/fraud.pt")

    Enters with ``audit.ml.training.started`` and leaves with ``completed``, or with ``failed`` when the block
    raises. What library hooks record inside carries this run's id as ``ml.training.parent_run_id``, and its model
    name. Works with ``with`` and ``async with``.

    Raises:
        AuditRefusedError: on entering, when the start could not be recorded and the policy says
            ``on_failure: refuse``. The run does not begin.
    """

    def __init__(
        self,
        name: str,
        *,
        dataset: Any = None,
        parameters: Mapping[str, Any] | None = None,
        purpose: str | None = None,
    ) -> None:
        """What is about to be trained.

        Args:
            name: of the model.
            dataset: its name, or the data itself (see ``dataset``).
            parameters: hyperparameters.
            purpose: why, in a few words; at most 256 characters are kept.
        """
        outer = current_run.get()
        self._run = TrainingRun(
            new_record_id(), str(name), parent_run_id=outer.run_id if outer is not None else ""
        )
        self._setting = Setting(current_run)
        self._texts: dict[str, str] = {}
        self._pipeline: Pipeline | None = None
        self._begun = 0
        self._given = (dataset, parameters, purpose)

    @property
    def run_id(self) -> str:
        """The id of the run, the same in all of its records."""
        return self._run.run_id

    def log_metric(self, name: str, value: float) -> None:
        """Keeps a metric for the run's last record; a later value replaces an earlier one.

        Args:
            name: of the metric, e.g. ``auc``; state the unit where there is one (``latency_ms``).
            value: a number. One that is not finite is recorded as text: JSON has no NaN.
        """
        if current_pipeline() is None:
            return
        self._contained(lambda: self._log(str(name), value))

    def dataset(self, data: Any = None, target: Any = None, *, name: str | None = None) -> None:
        """Records the data that the model learns from: its rows, columns and SHA-256 are recorded, never the data.

        Args:
            data: the rows, shape (rows, columns) or (rows,): an array, a data frame, a list of lists.
            target: what is to be predicted, shape (rows,) or (rows, outputs), digested apart.
            name: of the data set.
        """
        if current_pipeline() is None:
            return
        self._contained(lambda: self._describe(data, target, name))

    def artifact(self, path: str | os.PathLike[str]) -> None:
        """Records ``audit.ml.model.saved`` for a file that the run wrote, with its SHA-256.

        Args:
            path: of the file, or of a folder whose files are digested together.

        Raises:
            AuditRefusedError: the record could not be stored and the policy says ``on_failure: refuse``.
        """
        pipeline = self._pipeline or current_pipeline()
        if pipeline is None:
            return
        try:
            event, about, previous = self._artifact_event(pipeline, path)
        except Exception as error:  # noqa: BLE001 - the training goes on
            pipeline.fault(
                COMPONENT,
                error,
                kind=ML_MODEL_SAVED,
                fields={"ml.model.path": str(path)},
                outcome=FAILURE,
            )
            return
        pipeline.emit(event)
        from mlaudit.capture.models.retraining import notice

        notice(pipeline, about, previous)

    def __enter__(self) -> Self:
        self._pipeline = current_pipeline()
        self._setting.set(self._run)
        self._begun = time.perf_counter_ns()
        if self._pipeline is not None:
            self._contained(self._apply_given)
            try:
                self._pipeline.emit(self._event(ML_TRAINING_STARTED, SUCCESS, {}))
            except AuditRefusedError:
                self._setting.restore()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._setting.restore()
        pipeline = self._pipeline
        if pipeline is None:
            return
        duration = time.perf_counter_ns() - self._begun
        fields: dict[str, Any] = {"ml.training.duration": duration, "event.duration": duration}
        metrics = {**self._run.metrics, **self._texts}
        if metrics:
            fields["ml.training.metrics"] = metrics
        try:
            if error is None:
                event = self._event(ML_TRAINING_COMPLETED, SUCCESS, fields)
            else:
                from mlaudit.capture.models.estimator_runs import error_fields

                event = self._event(ML_TRAINING_FAILED, FAILURE, {**fields, **error_fields(error)})
            pipeline.emit(event)
        except AuditRefusedError:
            # The training has happened; the pipeline reports the loss as soon as it can write again.
            return

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _apply_given(self) -> None:
        from mlaudit.capture.models.estimators import text

        dataset, parameters, purpose = self._given
        if purpose:
            self._run.fields["labels"] = {"purpose": str(purpose)[:256]}
        if parameters:
            self._run.parameters = {str(key): text(value) for key, value in parameters.items()}
        if isinstance(dataset, str):
            self._describe(None, None, dataset)
        elif dataset is not None:
            self._describe(dataset, None, None)

    def _describe(self, data: Any, target: Any, name: str | None) -> None:
        from mlaudit.capture.models.estimator_runs import dataset_fields

        if name:
            self._run.fields["ml.dataset.name"] = str(name)
        if data is not None:
            self._run.fields.update(dataset_fields(data, target))

    def _log(self, name: str, value: Any) -> None:
        from mlaudit.capture.models.estimators import number

        found = number(value)
        self._run.metrics.pop(name, None)
        self._texts.pop(name, None)
        if isinstance(found, float):
            self._run.metrics[name] = found
        else:
            self._texts[name] = str(found if found is not None else value)[:256]

    def _artifact_event(
        self, pipeline: Pipeline, path: str | os.PathLike[str]
    ) -> tuple[AuditEvent, Known, Previous | None]:
        from mlaudit.capture.models import artifact_files
        from mlaudit.capture.models.artifact_register import ArtifactRegister
        from mlaudit.capture.models.known_models import Known

        run = self._run
        artifact = artifact_files.read(path)
        version, previous = ArtifactRegister(pipeline.settings.state_dir).save(
            artifact.path, run.name, artifact.digest, run.run_id
        )
        dataset = run.fields.get("ml.dataset.digest", "")
        metrics: dict[str, Any] = {**run.metrics, **self._texts}
        about = Known(run.name, version, artifact.digest, artifact.path, run.run_id, dataset, metrics)
        event = originate(
            AuditEvent(
                ML_MODEL_SAVED,
                target=Target("model", f"{run.name}@{version}"),
                fields={
                    "ml.model.name": run.name,
                    "ml.model.version": version,
                    "ml.model.path": artifact.path,
                    "ml.model.digest": artifact.digest,
                    "ml.training.run_id": run.run_id,
                    "labels": {"bytes": str(artifact.size)},
                },
            )
        )
        return event, about, previous

    def _event(self, kind: str, outcome: str, fields: dict[str, Any]) -> AuditEvent:
        run = self._run
        own: dict[str, Any] = {
            **run.fields,
            "ml.model.name": run.name,
            "ml.training.run_id": run.run_id,
            "ml.training.method": "run",
        }
        if run.parent_run_id:
            own["ml.training.parent_run_id"] = run.parent_run_id
        if run.parameters:
            own["ml.training.parameters"] = run.parameters
        return originate(
            AuditEvent(kind, outcome, target=Target("model", run.name), fields={**own, **fields})
        )

    def _contained(self, work: Any) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the training goes on
            pipeline = self._pipeline or current_pipeline()
            if pipeline is not None:
                pipeline.fault(COMPONENT, error)
