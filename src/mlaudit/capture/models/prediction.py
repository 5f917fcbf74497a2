"""What a prediction leaves: an entry in the request's trail, or, outside of a request, a record of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.capture.data.digest import digest, shape
from mlaudit.capture.models import known_models
from mlaudit.capture.models.estimator_runs import COMPONENT, error_fields
from mlaudit.capture.models.estimators import class_name, library
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import ModelUse, RequestTrail, open_trail
from mlaudit.capture.shorten import shortened
from mlaudit.capture.weak_memory import ByIdentity
from mlaudit.catalog.names import ML_PREDICTION
from mlaudit.event import FAILURE, SUCCESS, AuditEvent

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Outcome
    from mlaudit.pipeline.pipeline import Pipeline

SHOWN_ROWS: Final = 20
SHOWN_VALUES: Final = 200
SHOWN_TEXT: Final = 256
_made: Final[ByIdentity[tuple[type, known_models.Known]]] = ByIdentity()
_INPUTS: Final = 2
_FULL: Final = 3


class Given(NamedTuple):
    """What a model is given to predict from, where the argument itself does not say it."""

    digest: str = ""
    rows: int | None = None
    features: int | None = None


def predicting(
    pipeline: Pipeline, method: str, model: Any, data: Any, *, given: Given | None = None
) -> Audit:
    """The audit of a prediction: it leaves a trace of the call, with the result or the error that ended it.

    Args:
        pipeline: of this process.
        method: what was called.
        model: the model object.
        data: what it was given; digested before the call, which may change it.
        given: digest and shape of it, where they are known already.

    Raises:
        AuditRefusedError: outside of a request, the record cannot be stored and the policy says refuse. The hook is
            to be made with ``refuse_after``: then the prediction is not given out.
    """
    seen = _seen(pipeline, data) if given is None else given
    outcome = yield
    use = _use(method, model, seen, outcome)
    trail = open_trail()
    if trail is not None:
        trail.models.append(use)
    _show(pipeline, trail, use, data, outcome.result)
    if trail is None:
        event = _event_of(use, outcome.error)
        _made.remember(_owner(outcome.result), (type(model), known_models.lookup(model)))
        pipeline.emit(event)


def _seen(pipeline: Pipeline, data: Any) -> Given:
    try:
        rows, features = shape(data)
        return Given(digest(data), rows, features)
    except Exception as error:  # noqa: BLE001 - foreign data
        pipeline.fault(COMPONENT, error)
        return Given()


def _use(method: str, model: Any, seen: Given, outcome: Outcome) -> ModelUse:
    cls = type(model)
    about = known_models.lookup(model)
    distribution, version = library(cls)
    error = outcome.error
    return ModelUse(
        name=about.name or cls.__name__,
        version=about.version,
        cls=class_name(cls),
        library=distribution,
        library_version=version,
        digest=about.digest,
        method=method,
        rows=seen.rows,
        features=seen.features,
        input_digest=seen.digest,
        output_digest="" if error is not None else digest(outcome.result),
        duration_ns=outcome.duration,
        failed=error is not None,
        error="" if error is None else type(error).__name__,
        fields={"ml.training.run_id": about.run_id} if about.run_id else {},
    )


def maker(result: Any) -> tuple[type, known_models.Known] | None:
    """Class of the model that made a prediction and what is known of it, for results made outside of requests.

    A part of an array (the second column of ``predict_proba``) counts as the whole.
    """
    return _made.get(_owner(result))


def _owner(result: Any) -> Any:
    base = getattr(result, "base", None)
    return result if base is None else base


def _show(pipeline: Pipeline, trail: RequestTrail | None, use: ModelUse, data: Any, result: Any) -> None:
    """Adds values when the policy asks for them: the decision is cached, values are not free."""
    kind, route = (ML_PREDICTION, "") if trail is None else (trail.kind or ML_PREDICTION, trail.route)
    level = pipeline.decide(kind, route=route, model=use.name).level
    if level >= _INPUTS:
        use.inputs["ml.prediction.input"] = shown(data)
    if level >= _FULL and not use.failed:
        use.outputs["ml.prediction.output"] = shown(result)


def _event_of(use: ModelUse, error: BaseException | None) -> AuditEvent:
    fields = {"ml.prediction.batch": False, **use.named(), **use.fields, "event.duration": use.duration_ns}
    if error is not None:
        fields |= error_fields(error)
    outcome = FAILURE if use.failed else SUCCESS
    event = AuditEvent(
        ML_PREDICTION, outcome, target=use.target(), fields=fields, inputs=use.inputs, outputs=use.outputs
    )
    return originate(event)


def shown(data: Any) -> Any:
    """The first rows of data as JSON values; texts are cut, NaN and what is no plain value become text.

    At most ``SHOWN_ROWS`` rows and ``SHOWN_VALUES`` values; a list that was cut ends with "…".
    """
    rows = shape(data)[0]
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        head: Any = data.iloc[:SHOWN_ROWS].to_dict(orient="records")
    elif hasattr(data, "iloc"):
        head = data.iloc[:SHOWN_ROWS].tolist()
    elif hasattr(data, "tocsr"):
        head = data.tocsr()[:SHOWN_ROWS].toarray().tolist()
    elif hasattr(data, "tolist"):
        head = data[:SHOWN_ROWS].tolist() if rows else data.tolist()
    elif isinstance(data, list | tuple):
        head = list(data[:SHOWN_ROWS])
    else:
        head = data
    values = _plain(head, [SHOWN_VALUES], 0)
    if isinstance(values, list) and rows is not None and rows > SHOWN_ROWS:
        values.append("…")
    return values


def _plain(value: Any, budget: list[int], depth: int) -> Any:
    budget[0] -= 1
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # JSON has no NaN and no infinity.
        return value if value - value == 0 else str(value)
    if isinstance(value, str):
        return shortened(value, SHOWN_TEXT)
    if isinstance(value, list | tuple) and depth < 4:
        kept = []
        for item in value:
            if budget[0] <= 0:
                kept.append("…")
                break
            kept.append(_plain(item, budget, depth + 1))
        return kept
    if isinstance(value, dict) and depth < 4:
        return {
            str(key)[:SHOWN_TEXT]: _plain(item, budget, depth + 1)
            for key, item in list(value.items())[:SHOWN_VALUES]
            if budget[0] > 0
        }
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _plain(value.item(), budget, depth + 1) if depth < 4 else str(value)[:SHOWN_TEXT]
    return f"<{type(value).__name__}>"
