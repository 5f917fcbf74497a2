"""Records of a search for hyperparameters whose trials are runs of their own: the study, and each trial."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mlaudit.capture.models.estimator_runs import error_fields
from mlaudit.capture.models.estimators import library, number, text
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import TrainingRun, current_run
from mlaudit.catalog.names import ML_TUNING_COMPLETED, ML_TUNING_STARTED, ML_TUNING_TRIAL
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target, new_record_id

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Outcome
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.optuna"
MAX_PARAMETERS: Final = 200


class Trial:
    """One trial while it runs: the run that its children name as their parent, and how its objective ended."""

    def __init__(self, study: TrainingRun) -> None:
        self.run = TrainingRun(
            new_record_id(), study.name, parent_run_id=study.run_id, fields=dict(study.fields)
        )
        self.error: BaseException | None = None
        self.duration: int | None = None
        self._begun = time.perf_counter_ns()

    def stop(self) -> None:
        """The objective has ended."""
        self.duration = time.perf_counter_ns() - self._begun


class Search:
    """One search in one study.

    Attributes:
        run: the run that the trials name as their parent.
        open: trials that were requested and are not recorded yet, by number.
        recorded: numbers of the trials that are recorded.
    """

    def __init__(self, pipeline: Pipeline, study: Any, method: str, settings: dict[str, Any]) -> None:
        """Describes the search.

        Args:
            pipeline: takes the records.
            study: an ``optuna.Study``.
            method: ``ml.training.method``.
            settings: of the search, e.g. how many trials it may make.
        """
        self.pipeline = pipeline
        outer = current_run.get()
        data = {} if outer is None else outer.fields
        self.run = TrainingRun(
            new_record_id(),
            "" if outer is None else outer.name,
            parent_run_id="" if outer is None else outer.run_id,
            fields={name: value for name, value in data.items() if name.startswith("ml.dataset.")},
        )
        self.open: dict[int, Trial] = {}
        self.recorded: set[int] = set()
        self._states: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._begun = time.perf_counter_ns()
        self._name = text(study.study_name)
        self._directions = [direction.name.lower() for direction in study.directions]
        self._fields: dict[str, Any] = {
            **self._shared(),
            "ml.training.run_id": self.run.run_id,
            "ml.training.method": method,
            "ml.training.parameters": {
                "sampler": type(study.sampler).__name__,
                "pruner": type(study.pruner).__name__,
                **{name: text(value) for name, value in settings.items()},
            },
            "labels": {"library": " ".join(library(type(study))), "storage": _storage(study)},
        }
        if self.run.parent_run_id:
            self._fields["ml.training.parent_run_id"] = self.run.parent_run_id

    def start(self) -> None:
        """Records that the search begins.

        Raises:
            AuditRefusedError: it cannot be recorded and the policy says refuse.
        """
        target = Target("study", self._name)
        self.pipeline.emit(
            originate(AuditEvent(ML_TUNING_STARTED, SUCCESS, target=target, fields=dict(self._fields)))
        )
        self._begun = time.perf_counter_ns()

    def trial(self, study: Any, frozen: Any, trial: Trial) -> None:
        """Records a trial as Optuna ended it.

        Raises:
            AuditRefusedError: it cannot be recorded and the policy says refuse.
        """
        state = frozen.state.name.lower()
        with self._lock:
            self._states[state] += 1
        duration = trial.duration
        if duration is None and frozen.duration is not None:
            duration = int(frozen.duration.total_seconds() * 1e9)
        failed = state not in ("complete", "pruned")
        fields: dict[str, Any] = {
            **self._shared(),
            "ml.training.run_id": trial.run.run_id,
            "ml.training.parent_run_id": self.run.run_id,
            "ml.training.method": "trial",
            "ml.training.trial.number": frozen.number,
            "ml.training.trial.state": state,
            "ml.training.parameters": _parameters(frozen.params),
            "ml.training.metrics": {**trial.run.metrics, **_intermediate(frozen), **_values(study, frozen)},
        }
        if duration is not None:
            fields |= {"ml.training.duration": duration, "event.duration": duration}
        if failed and trial.error is not None:
            fields |= error_fields(trial.error)
        if "fixed_params" in frozen.system_attrs:
            # Somebody chose its parameters: ``Study.enqueue_trial``.
            fields["labels"] = {"enqueued": "true"}
        fields = {name: value for name, value in fields.items() if value != {}}
        target = Target("trial", f"{self._name}/{frozen.number}")
        outcome = FAILURE if failed else SUCCESS
        self.pipeline.emit(originate(AuditEvent(ML_TUNING_TRIAL, outcome, target=target, fields=fields)))

    def completed(self, study: Any, outcome: Outcome) -> None:
        """Records that the search ended, with what it found.

        Raises:
            AuditRefusedError: it cannot be recorded and the policy says refuse.
        """
        duration = time.perf_counter_ns() - self._begun
        fields: dict[str, Any] = {
            **self._fields,
            "ml.training.candidates": self._states.total(),
            "ml.training.duration": duration,
            "event.duration": duration,
            "ml.training.metrics": {f"trials_{state}": count for state, count in self._states.items()},
        }
        try:
            fields |= self._best(study, fields["ml.training.metrics"])
        except Exception as fault:  # noqa: BLE001 - a storage may be gone by now; the rest is still true
            self.pipeline.fault(COMPONENT, fault)
        if outcome.error is not None:
            fields |= error_fields(outcome.error)
        elif getattr(study, "_stop_flag", False):
            fields["event.reason"] = "Study.stop was called"
        target = Target("study", self._name)
        self.pipeline.emit(
            originate(AuditEvent(ML_TUNING_COMPLETED, outcome.outcome, target=target, fields=fields))
        )

    def _shared(self) -> dict[str, Any]:
        fields = {
            **self.run.fields,
            "ml.experiment.name": self._name,
            "ml.training.directions": self._directions,
        }
        if self.run.name:
            fields["ml.model.name"] = self.run.name
        return fields

    def _best(self, study: Any, metrics: dict[str, Any]) -> dict[str, Any]:
        if not self._states["complete"]:
            return {}
        if len(self._directions) > 1:
            metrics["pareto_trials"] = len(study.best_trials)
            return {}
        try:
            best = study.best_trial
        except ValueError:  # none that keeps to the constraints
            return {}
        metrics["best_trial"] = best.number
        score = number(best.value)
        found: dict[str, Any] = {"ml.training.best_parameters": _parameters(best.params)}
        if isinstance(score, float):
            found["ml.training.best_score"] = score
        elif score is not None:
            metrics["best_score"] = score
        return found


def _parameters(found: dict[str, Any]) -> dict[str, str]:
    return {str(name): text(value) for name, value in list(found.items())[:MAX_PARAMETERS]}


def _values(study: Any, frozen: Any) -> dict[str, Any]:
    values = frozen.values
    if values is None:
        return {}
    names = getattr(study, "metric_names", None)
    if not names:
        names = ["value"] if len(values) == 1 else [f"value_{place}" for place in range(len(values))]
    return {name: number(value) for name, value in zip(names, values, strict=False)}


def _intermediate(frozen: Any) -> dict[str, Any]:
    """How many values the objective reported on its way, and the first, last, least and greatest of them."""
    found = frozen.intermediate_values
    if not found:
        return {}
    values = [found[step] for step in sorted(found)]
    summary = {"first": values[0], "last": values[-1], "min": min(values), "max": max(values)}
    return {
        "intermediate_count": len(values),
        **{f"intermediate_{name}": number(value) for name, value in summary.items()},
    }


def _storage(study: Any) -> str:
    """Where the study is kept: a URL without user, password and options, or the class of the storage."""
    # No public name leads from a study to its storage.
    storage = getattr(study, "_storage", None)
    backend = getattr(storage, "_backend", storage)
    url = getattr(backend, "url", None)
    if isinstance(url, str):
        try:
            parts = urlsplit(url)
        except ValueError:
            return type(backend).__name__
        place = parts.netloc.rpartition("@")[2]
        return text(f"{parts.scheme}://{place}{parts.path}")
    return type(backend).__name__
