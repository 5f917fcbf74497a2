"""The audits of scikit-learn's calls, for ``hooks``: what trains a model, asks it, and judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from mlaudit.capture.hooks import SILENT
from mlaudit.capture.models import known_models, prediction
from mlaudit.capture.models.call_runs import Result, Subject, described, learning
from mlaudit.capture.models.estimator_runs import COMPONENT, dataset_fields, evaluated
from mlaudit.capture.models.estimators import (
    FOREIGN,
    MODEL,
    is_estimator,
    is_search,
    number,
    parameters,
    role,
    score_name,
    text,
)

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

# Candidates of a search that are recorded one by one.
MAX_TOP: Final = 10
# What a fitted estimator may say about its own training, as one number.
_METRICS: Final = ("oob_score_", "inertia_", "loss_", "n_iter_", "best_loss_", "lower_bound_", "cost_")
# LightGBM's and XGBoost's estimators are shells around a booster that may be saved by itself.
_PARTS: Final = ("best_estimator_", "_Booster")


def of_estimator(call: Call) -> bool | Literal["silent"]:
    """Which calls of methods are recorded: a model's. What prepares data may fit a model for every column inside."""
    found = role(type(call.instance))
    if found == MODEL and call.name != "transform":
        return True
    return found != FOREIGN and SILENT


def on_estimator(call: Call) -> bool:
    """Which calls of functions are recorded: those that are given an estimator of scikit-learn's."""
    return is_estimator(call.argument(0, "estimator"))


def train(pipeline: Pipeline, call: Call) -> Audit:
    """``fit`` and its relatives, searches included."""
    estimator = call.instance
    data, target = call.argument(0, "X"), call.argument(1, "y")
    before = known_models.lookup(estimator)
    method = "partial_fit" if call.name == "partial_fit" else "fit"
    # Repeated partial_fit of one object is one run that goes on.
    goes_on = before.run_id if method == "partial_fit" and not before.loaded else ""
    subject = Subject(
        type(estimator),
        "search" if is_search(estimator) else method,
        before,
        described(pipeline, COMPONENT, lambda: dataset_fields(data, target)),
        described(pipeline, COMPONENT, lambda: dict(parameters(estimator))),
        goes_on,
    )
    yield from learning(pipeline, COMPONENT, subject, lambda _: _trained(pipeline, estimator))


def predict(pipeline: Pipeline, call: Call) -> Audit:
    """``predict`` and its relatives."""
    return prediction.predicting(pipeline, call.name, call.instance, call.argument(0, "X"))


def score(pipeline: Pipeline, call: Call) -> Audit:
    """``score``: one evaluation with the value."""
    estimator = call.instance
    data, target = call.argument(0, "X"), call.argument(1, "y")
    outcome = yield
    metrics: dict[str, Any] = {}
    if outcome.error is None:
        metrics = described(pipeline, COMPONENT, lambda: {score_name(estimator): outcome.result})
    evaluated(pipeline, call.name, estimator, data, target, metrics, outcome)


def cross_validate(pipeline: Pipeline, call: Call) -> Audit:
    """``cross_val_score`` and its relatives, which train many models only to judge them: one evaluation."""
    estimator = call.argument(0, "estimator")
    data, target = call.argument(1, "X"), call.argument(2, "y")
    outcome = yield
    metrics: dict[str, Any] = {}
    if outcome.error is None:
        metrics = described(pipeline, COMPONENT, lambda: _judged(call.name, outcome.result))
    evaluated(pipeline, call.name, estimator, data, target, metrics, outcome)


def _judged(name: str, result: Any) -> dict[str, Any]:
    if name == "cross_validate":
        scores = {
            key.removeprefix("test_"): values for key, values in result.items() if key.startswith("test_")
        }
        return {f"{part}_{key}": value for key, values in scores.items() for part, value in _spread(values)}
    if name == "cross_val_score":
        return {f"{part}_score": value for part, value in _spread(result)}
    return {"score": result[0], "p_value": result[2]} if name == "permutation_test_score" else {}


def _spread(values: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("mean", values.mean()), ("std", values.std())


def _trained(pipeline: Pipeline, estimator: Any) -> Result:
    own = described(pipeline, COMPONENT, lambda: vars(estimator))
    parts = [own[name] for name in _PARTS if own.get(name) is not None]
    found = described(pipeline, COMPONENT, lambda: _search(estimator)) if is_search(estimator) else {}
    metrics = {name.rstrip("_"): own.get(name) for name in _METRICS} | found.pop("metrics", {})
    return Result((estimator, *parts), metrics, **found)


def _search(estimator: Any) -> dict[str, Any]:
    """What a search found, as parts of a ``Result``."""
    fields: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    counts: dict[str, int] = {}
    results = getattr(estimator, "cv_results_", {})
    if "params" in results:
        # A halving search tries the good ones of its candidates again, with more data.
        first = getattr(estimator, "n_candidates_", None)
        fields["ml.training.candidates"] = int(first[0]) if first else len(results["params"])
        if first:
            counts["iterations"] = len(first)
        fields["ml.training.top_candidates"] = _top(results, getattr(estimator, "refit", None))
    elif isinstance(trials := getattr(estimator, "trials_", None), list):
        fields["ml.training.candidates"] = len(trials)
    best = getattr(estimator, "best_params_", None)
    if isinstance(best, dict):
        fields["ml.training.best_parameters"] = {str(key): text(value) for key, value in best.items()}
    score = getattr(estimator, "best_score_", None)
    if isinstance(number(score), float):
        fields["ml.training.best_score"] = number(score)
    else:
        metrics["best_score"] = score
    place = getattr(estimator, "best_index_", None)
    for name, values in results.items():
        if place is not None and name.startswith(("mean_test_", "std_test_")):
            metrics[name] = values[place]
    return {"metrics": metrics, "counts": counts, "fields": fields}


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
