"""Records of training and evaluation: started before, completed or failed after.

The promise of ``on_failure: refuse`` is kept before the work: ``Training.start`` raises when the record cannot be
stored, and nothing has been trained. After the work nothing is refused: the result exists, and taking it away
would lose hours, not prevent anything.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.data.digest import digest, shape
from mlaudit.capture.models import known_models
from mlaudit.capture.models.estimators import class_name, is_search, library, number, parameters, text
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import TrainingRun, current_run
from mlaudit.capture.shorten import shortened
from mlaudit.catalog.names import (
    ML_TRAINING_COMPLETED,
    ML_TRAINING_EVALUATED,
    ML_TRAINING_FAILED,
    ML_TRAINING_STARTED,
)
from mlaudit.errors import AuditRefusedError
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target, new_record_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.sklearn"
# Ways of judging the very object, not clones of it.
_OF_ITSELF: Final = ("score", "scorer")
# Candidates of a search that are told one by one.
MAX_TOP: Final = 10
# What a fitted estimator may say about its own training, as one number.
_METRICS: Final = ("oob_score_", "inertia_", "loss_", "n_iter_", "best_loss_", "lower_bound_", "cost_")


class Training:
    """One audited run of ``fit``, ``partial_fit`` or a search."""

    def __init__(self, pipeline: Pipeline, method: str, estimator: Any, data: Any, target: Any) -> None:
        self._pipeline = pipeline
        self._estimator = estimator
        run = current_run.get()
        before = known_models.about(estimator)
        # Repeated partial_fit of one object is one run that goes on.
        self._goes_on = method == "partial_fit" and bool(before.run_id) and not before.loaded
        self.run_id = before.run_id if self._goes_on else new_record_id()
        # Given by somebody, rather than the class's name for want of a better one.
        self._given_name = (run.name if run is not None else "") or before.name
        self._name = self._given_name or type(estimator).__name__
        self._fields: dict[str, Any] = {
            **model_fields(estimator, self._name, known_models.NOTHING),
            "ml.training.run_id": self.run_id,
            "ml.training.method": "search" if is_search(estimator) else method,
        }
        if run is not None:
            self._fields["ml.training.parent_run_id"] = run.run_id
            self._fields |= {
                name: value for name, value in run.fields.items() if name.startswith("ml.dataset.")
            }
        self._contained(lambda: self._fields.update(_parameter_fields(estimator)))
        self._contained(lambda: self._fields.update(dataset_fields(data, target)))
        self._begun = time.perf_counter_ns()

    def start(self) -> None:
        """Records that training starts.

        Raises:
            AuditRefusedError: it cannot be recorded and the policy says refuse.
        """
        if not self._goes_on:
            self._pipeline.emit(self._event(ML_TRAINING_STARTED, SUCCESS, {}))
        self._begun = time.perf_counter_ns()

    def completed(self) -> None:
        """Records that it ended well, and remembers which run made the model."""
        duration = time.perf_counter_ns() - self._begun
        fields: dict[str, Any] = {"ml.training.duration": duration, "event.duration": duration}
        self._contained(lambda: fields.update(_results(self._estimator)))
        self._contained(lambda: self._remember(fields.get("ml.training.metrics", {})))
        self._after(self._event(ML_TRAINING_COMPLETED, SUCCESS, fields))
        run = current_run.get()
        if run is not None:
            self._contained(lambda: _tell(run, fields))

    def failed(self, error: BaseException) -> None:
        """Records that it ended with an error; the caller raises it again."""
        duration = time.perf_counter_ns() - self._begun
        self._after(
            self._event(
                ML_TRAINING_FAILED,
                FAILURE,
                {"ml.training.duration": duration, "event.duration": duration, **error_fields(error)},
            )
        )

    def _event(self, kind: str, outcome: str, fields: dict[str, Any]) -> AuditEvent:
        return originate(
            AuditEvent(kind, outcome, target=Target("model", self._name), fields={**self._fields, **fields})
        )

    def _after(self, event: AuditEvent) -> None:
        try:
            self._pipeline.emit(event)
        except AuditRefusedError:
            # Counted by the pipeline, which says so in a record as soon as it can write again.
            return

    def _contained(self, describe: Callable[[], Any]) -> None:
        """One part of the description that cannot be made costs that part, not the record."""
        try:
            describe()
        except Exception as error:  # noqa: BLE001 - estimators and data are foreign objects
            self._pipeline.fault(COMPONENT, error)

    def _remember(self, metrics: dict[str, Any]) -> None:
        # What was known of its artifact is no longer true: it has been trained anew.
        entry = known_models.Known(
            name=self._given_name,
            run_id=self.run_id,
            dataset=self._fields.get("ml.dataset.digest", ""),
            metrics=metrics,
        )
        known_models.know(self._estimator, entry)
        # LightGBM's and XGBoost's estimators are shells around a booster that may be saved by itself.
        for name in ("best_estimator_", "_Booster"):
            part = vars(self._estimator).get(name)
            if part is not None:
                known_models.know(part, entry)


def evaluated(
    pipeline: Pipeline,
    method: str,
    estimator: Any,
    data: Any,
    target: Any,
    metrics: dict[str, Any],
    duration: int,
    error: BaseException | None = None,
) -> None:
    """Records that a model was scored on data, or that this failed.

    Raises:
        AuditRefusedError: it cannot be recorded and the policy says refuse.
    """
    # Cross-validation trains clones of the estimator: what is known of the object itself does not hold for them.
    model = known_models.about(estimator) if method in _OF_ITSELF else known_models.NOTHING
    run = current_run.get()
    name = model.name or (run.name if run is not None else "") or type(estimator).__name__
    fields: dict[str, Any] = {
        **model_fields(estimator, name, model),
        "ml.training.method": method,
        "event.duration": duration,
    }
    if model.run_id:
        fields["ml.training.run_id"] = model.run_id
    if run is not None:
        fields["ml.training.parent_run_id"] = run.run_id
    try:
        fields |= dataset_fields(data, target)
        if method not in _OF_ITSELF:
            fields |= _parameter_fields(estimator)
        found = {key: value for key, item in metrics.items() if (value := number(item)) is not None}
        if found:
            fields["ml.training.metrics"] = found
            if model.run_id:
                known_models.know(estimator, replace(model, metrics={**model.metrics, **found}))
            if run is not None:
                run.metrics.update({key: value for key, value in found.items() if isinstance(value, float)})
    except Exception as fault:  # noqa: BLE001 - foreign data
        pipeline.fault(COMPONENT, fault)
    if error is not None:
        fields |= error_fields(error)
    outcome = SUCCESS if error is None else FAILURE
    pipeline.emit(
        originate(AuditEvent(ML_TRAINING_EVALUATED, outcome, target=Target("model", name), fields=fields))
    )


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


def _parameter_fields(estimator: Any) -> dict[str, Any]:
    found = parameters(estimator)
    return {"ml.training.parameters": found} if found else {}


def _results(estimator: Any) -> dict[str, Any]:
    metrics = {
        name.rstrip("_"): value
        for name in _METRICS
        if (value := number(vars(estimator).get(name))) is not None
    }
    fields: dict[str, Any] = {}
    if is_search(estimator):
        fields |= _search_results(estimator, metrics)
    if metrics:
        fields["ml.training.metrics"] = metrics
    return fields


def _search_results(estimator: Any, metrics: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    results = getattr(estimator, "cv_results_", {})
    if "params" in results:
        # A halving search tries the good ones of its candidates again, with more data.
        first = getattr(estimator, "n_candidates_", None)
        fields["ml.training.candidates"] = int(first[0]) if first else len(results["params"])
        if first:
            metrics["iterations"] = len(first)
        fields["ml.training.top_candidates"] = _top(results, getattr(estimator, "refit", None))
    elif isinstance(trials := getattr(estimator, "trials_", None), list):
        fields["ml.training.candidates"] = len(trials)
    best = getattr(estimator, "best_params_", None)
    if isinstance(best, dict):
        fields["ml.training.best_parameters"] = {str(key): text(value) for key, value in best.items()}
    score = number(getattr(estimator, "best_score_", None))
    if isinstance(score, float):
        fields["ml.training.best_score"] = score
    elif score is not None:
        metrics["best_score"] = score
    place = getattr(estimator, "best_index_", None)
    for name, values in results.items():
        if place is not None and name.startswith(("mean_test_", "std_test_")):
            value = number(values[place])
            if value is not None:
                metrics[name] = value
    return fields


def _top(results: dict[str, Any], refit: Any) -> list[dict[str, Any]]:
    """The best candidates with rank, score and parameters, those of a halving search's last round before others."""
    names = [name.removeprefix("rank_test_") for name in results if name.startswith("rank_test_")]
    if not names:
        return []
    name = refit if refit in names else names[0]
    ranks, scores, given = results[f"rank_test_{name}"], results[f"mean_test_{name}"], results["params"]
    rounds = results.get("iter", [0] * len(given))
    best = sorted(range(len(given)), key=lambda place: (-int(rounds[place]), int(ranks[place])))
    return [
        {
            "rank": int(ranks[place]),
            "score": number(scores[place]),
            "parameters": {str(key): text(value) for key, value in given[place].items()},
        }
        for place in best[:MAX_TOP]
    ]


def _tell(run: TrainingRun, fields: dict[str, Any]) -> None:
    found = fields.get("ml.training.metrics", {})
    run.metrics.update({key: value for key, value in found.items() if isinstance(value, float)})
