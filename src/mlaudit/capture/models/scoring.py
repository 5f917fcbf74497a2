"""scikit-learn's scorers and metric functions, called by the program itself: what a model was found to be worth.

A scorer judges a model on data: an evaluation like ``score``. A metric function sees two arrays. Which model made
the second one is known when it is the very array that a recorded prediction gave, or a part of it; the digests
link the two in any case.

A metric may be asked for after every batch, so records of metric functions are bounded: ``MAX_RECORDS`` for each
run, or in a minute outside of runs. The last one says that it is; the run's own record has the last value of each.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.data.digest import digest, shape
from mlaudit.capture.models import known_models, prediction
from mlaudit.capture.models.call_runs import described, numbers
from mlaudit.capture.models.estimator_runs import COMPONENT, class_fields, error_fields, evaluated
from mlaudit.capture.models.estimators import number
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import current_run
from mlaudit.catalog.names import ML_TRAINING_EVALUATED
from mlaudit.event import AuditEvent, Target
from mlaudit.safety.bounded_map import BoundedMap

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome
    from mlaudit.pipeline.pipeline import Pipeline

MAX_RECORDS: Final = 100
MAX_CLASSES: Final = 20
_MINUTE: Final = 60.0
_MAX_RUNS: Final = 1024
_JUDGED: Final = ("y_pred", "y_score", "y_proba", "y_prob", "pred_decision", "labels_pred")
_METRICS: Final = (
    "accuracy_score",
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "classification_report",
    "cohen_kappa_score",
    "completeness_score",
    "d2_absolute_error_score",
    "d2_log_loss_score",
    "d2_pinball_score",
    "d2_tweedie_score",
    "dcg_score",
    "explained_variance_score",
    "f1_score",
    "fbeta_score",
    "hamming_loss",
    "hinge_loss",
    "homogeneity_score",
    "jaccard_score",
    "log_loss",
    "matthews_corrcoef",
    "max_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_gamma_deviance",
    "mean_pinball_loss",
    "mean_poisson_deviance",
    "mean_squared_error",
    "mean_squared_log_error",
    "mean_tweedie_deviance",
    "median_absolute_error",
    "mutual_info_score",
    "ndcg_score",
    "normalized_mutual_info_score",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
    "root_mean_squared_log_error",
    "top_k_accuracy_score",
    "v_measure_score",
    "zero_one_loss",
)
# The lines of a report as text that do not name a class of the data.
_REPORT: Final = re.compile(
    r"^ *(accuracy|micro avg|macro avg|weighted avg|samples avg) +([\d. ]+)$", re.MULTILINE
)


def hook(hooks: Hooks, module: Any) -> None:
    """Hooks the scorers and metric functions of ``sklearn.metrics``."""
    scorer = getattr(module._scorer, "_BaseScorer", None)  # noqa: SLF001 - every scorer is one of these
    if scorer is not None:
        hooks.around(
            scorer, "__call__", _scored, kind=ML_TRAINING_EVALUATED, outermost=True, refuse_after=True
        )
    for name in _METRICS:
        hooks.around(module, name, _measured, kind=ML_TRAINING_EVALUATED, outermost=True, refuse_after=True)


def _scored(pipeline: Pipeline, call: Call) -> Audit:
    estimator, data, target = call.argument(0, "estimator"), call.argument(1, "X"), call.argument(2, "y_true")
    outcome = yield
    function = getattr(call.instance, "_score_func", None)
    sign = getattr(call.instance, "_sign", 1)
    name = ("neg_" if sign < 0 else "") + getattr(function, "__name__", type(call.instance).__name__)
    metrics = {} if outcome.error is not None else {name: outcome.result}
    evaluated(pipeline, "scorer", estimator, data, target, metrics, outcome)


class _Budget:
    """How many records of metric functions each run has left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: BoundedMap[str, int] = BoundedMap(_MAX_RUNS)
        self._since = 0.0

    def take(self, run_id: str) -> int:
        """What is left before this one; 0 when nothing is."""
        with self._lock:
            if not run_id and time.monotonic() - self._since > _MINUTE:
                self._since = time.monotonic()
                self._runs.pop("", None)
            left = self._runs.get(run_id, MAX_RECORDS)
            self._runs[run_id] = max(left - 1, 0)
            return left


_budget: Final = _Budget()


def _measured(pipeline: Pipeline, call: Call) -> Audit:
    run = current_run.get()
    left = _budget.take("" if run is None else run.run_id)
    if not left:
        outcome = yield
        _record(call, outcome)
        return
    truth = call.argument(0, "y_true", call.kwargs.get("labels_true"))
    judged = call.args[1] if len(call.args) > 1 else _first(call.kwargs)
    fields: dict[str, Any] = {"ml.training.method": call.name}
    fields |= described(pipeline, COMPONENT, lambda: _describe(truth, judged))
    outcome = yield
    made = prediction.maker(judged)
    about = known_models.NOTHING if made is None else made[1]
    name = about.name or ("" if run is None else run.name)
    if made is not None:
        name = name or made[0].__name__
        fields |= class_fields(made[0], name, about)
    elif name:
        fields["ml.model.name"] = name
    if about.run_id:
        fields["ml.training.run_id"] = about.run_id
    if run is not None:
        fields["ml.training.parent_run_id"] = run.run_id
    fields["event.duration"] = outcome.duration
    if outcome.error is not None:
        fields |= error_fields(outcome.error)
    else:
        found = described(pipeline, COMPONENT, lambda: _record(call, outcome))
        if found:
            fields["ml.training.metrics"] = found
    if left == 1:
        fields["event.reason"] = (
            f"{MAX_RECORDS} metrics of this run were recorded, more are not: its own record has the last of each"
            if run is not None
            else f"{MAX_RECORDS} metrics were recorded in a minute, further ones in it are not"
        )
    target = Target("model", name) if name else Target("metric", call.name)
    pipeline.emit(originate(AuditEvent(ML_TRAINING_EVALUATED, outcome.outcome, target=target, fields=fields)))


def _first(given: dict[str, Any]) -> Any:
    return next((given[name] for name in _JUDGED if name in given), None)


def _describe(truth: Any, judged: Any) -> dict[str, Any]:
    fields = {
        "ml.dataset.rows": shape(truth)[0],
        "ml.dataset.target.digest": digest(truth),
        "ml.prediction.output.digest": digest(judged),
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _record(call: Call, outcome: Outcome) -> dict[str, Any]:
    """The metrics of a call; the run under way keeps the last of each."""
    if outcome.error is not None:
        return {}
    found = numbers(_values(call.name, outcome.result))
    run = current_run.get()
    if run is not None:
        run.metrics.update({name: value for name, value in found.items() if isinstance(value, float)})
    return found


def _values(name: str, result: Any) -> dict[str, Any]:
    if isinstance(result, str):
        result = dict(_line(*found) for found in _REPORT.findall(result))
    if isinstance(result, dict):
        # A report: what it says of single classes names values of the data.
        found = {"accuracy": result["accuracy"]} if "accuracy" in result else {}
        for line in ("micro avg", "macro avg", "weighted avg", "samples avg"):
            for column, value in result.get(line, {}).items():
                found[f"{line} {column}".replace(" ", "_").replace("-", "_")] = value
        return found
    if number(result) is not None:
        return {name: result}
    values = getattr(result, "tolist", lambda: result)()
    if isinstance(values, list | tuple) and len(values) <= MAX_CLASSES:
        return {f"{name}_{place}": value for place, value in enumerate(values)}
    return {}


def _line(name: str, columns: str) -> tuple[str, Any]:
    values = [float(column) for column in columns.split()]
    if name == "accuracy":
        return name, values[0]
    return name, dict(zip(("precision", "recall", "f1-score", "support"), values, strict=False))
