"""One run of MLflow: what is known of it while it is under way, and the records of its start and end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.libraries.mlflow.state import actor, place_of
from mlaudit.capture.models.estimator_runs import error_fields
from mlaudit.capture.models.estimators import number, text
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import TrainingRun, current_run
from mlaudit.capture.shorten import shortened
from mlaudit.catalog.names import ML_TRAINING_COMPLETED, ML_TRAINING_FAILED, ML_TRAINING_STARTED
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

MAX_NAMES: Final = 200
MAX_DATASETS: Final = 20
ENDS: Final = {"FINISHED": ML_TRAINING_COMPLETED, "FAILED": ML_TRAINING_FAILED, "KILLED": ML_TRAINING_FAILED}
_PARENT: Final = "mlflow.parentRunId"
_LABELS: Final = {"mlflow.source.git.commit": "git_commit", "mlflow.autologging": "autologging"}


class Run:
    """One run of MLflow that is under way in this process."""

    def __init__(self, info: Any, tags: dict[str, str], experiment: str) -> None:
        """Describes a run as MLflow made it.

        Args:
            info: ``mlflow.entities.RunInfo``.
            tags: of the run.
            experiment: name of its experiment, "" when it could not be asked for.
        """
        outer = current_run.get()
        parent = tags.get(_PARENT, "") if outer is None or outer.run_id == info.run_id else outer.run_id
        self.run = TrainingRun(info.run_id, parent_run_id=parent)
        # What was under way when this run was entered; given back when it is left.
        self.before: TrainingRun | None = None
        self.error: BaseException | None = None
        self.tags = dict(tags)
        self._experiment = (experiment, str(info.experiment_id))
        self._name = str(getattr(info, "run_name", None) or tags.get("mlflow.runName", ""))
        self._metrics: dict[str, list[float]] = {}
        # Last values that are not finite.
        self._texts: dict[str, str] = {}
        self._datasets: list[str] = []
        self._lock = threading.Lock()
        self._begun = time.perf_counter_ns()

    def metric(self, name: str, value: Any) -> None:
        """Takes one value of a metric: the last, least and greatest are kept, and how many there were."""
        found = number(value)
        with self._lock:
            if not isinstance(found, float):
                if found is not None and len(self._texts) < MAX_NAMES:
                    self._texts[name] = found
                return
            self._texts.pop(name, None)
            seen = self._metrics.get(name)
            if seen is not None:
                seen[:] = [found, min(seen[1], found), max(seen[2], found), seen[3] + 1]
            elif len(self._metrics) < MAX_NAMES:
                self._metrics[name] = [found, found, found, 1]

    def parameter(self, name: str, value: Any) -> None:
        """Takes one parameter, as short text."""
        with self._lock:
            if len(self.run.parameters) < MAX_NAMES:
                self.run.parameters[str(name)] = text(value)

    def data(self, entity: Any, context: str) -> None:
        """Takes a data set as MLflow describes it: name, MLflow's own digest, and where it came from."""
        with self._lock:
            if len(self._datasets) >= MAX_DATASETS:
                return
            self._datasets.append(f"{context or 'data'}: {entity.name} {entity.digest}")
            fields = self.run.fields
            if "ml.dataset.name" not in fields or context == "training":
                fields["ml.dataset.name"] = entity.name
                fields.setdefault("ml.dataset.digest", f"mlflow:{entity.digest}")
                if uri := place_of(entity.source):
                    fields["ml.dataset.uri"] = uri

    def described(self) -> dict[str, Any]:
        """The metrics that are known by now, as ``ml.training.metrics`` holds them."""
        with self._lock:
            found: dict[str, Any] = dict(self.run.metrics)
            for name, (last, least, most, count) in self._metrics.items():
                found[name] = last
                if count > 1:
                    found |= {f"{name}.min": least, f"{name}.max": most, f"{name}.count": int(count)}
            found |= self._texts
        return found

    def started(self, pipeline: Pipeline, *, resumed: bool = False) -> None:
        """Records that it began, or goes on.

        Raises:
            AuditRefusedError: it cannot be recorded and the policy says refuse.
        """
        fields = self._fields()
        if resumed:
            fields["event.reason"] = "an earlier run goes on"
        self._emit(pipeline, ML_TRAINING_STARTED, SUCCESS, fields)

    def ended(self, pipeline: Pipeline, status: str) -> None:
        """Records how it ended: ``status`` is MLflow's."""
        fields = self._fields()
        duration = time.perf_counter_ns() - self._begun
        fields |= {"ml.training.duration": duration, "event.duration": duration}
        kind = ENDS[status]
        if kind == ML_TRAINING_FAILED:
            # A run may be marked as failed without any exception.
            fields |= {"error.type": status} if self.error is None else error_fields(self.error)
            fields["event.reason"] = f"MLflow's status is {status}"
        self._emit(pipeline, kind, SUCCESS if kind == ML_TRAINING_COMPLETED else FAILURE, fields)

    def _fields(self) -> dict[str, Any]:
        labels = {"run": self._name} if self._name else {}
        labels |= {
            label: shortened(str(self.tags[tag]), 256) for tag, label in _LABELS.items() if self.tags.get(tag)
        }
        with self._lock:
            if self._datasets:
                labels["datasets"] = shortened("; ".join(self._datasets), 1000)
            fields = {
                **self.run.fields,
                "ml.training.run_id": self.run.run_id,
                "ml.training.parent_run_id": self.run.parent_run_id,
                "ml.training.method": "run",
                "ml.training.parameters": dict(self.run.parameters),
                "ml.experiment.name": self._experiment[0],
                "ml.experiment.id": self._experiment[1],
                "labels": labels,
            }
        fields["ml.training.metrics"] = self.described()
        return {name: value for name, value in fields.items() if value not in ("", {})}

    def _emit(self, pipeline: Pipeline, kind: str, outcome: str, fields: dict[str, Any]) -> None:
        event = AuditEvent(kind, outcome, target=Target("run", self._name or self.run.run_id), fields=fields)
        event.actor = actor(self.tags)
        pipeline.emit(originate(event))
