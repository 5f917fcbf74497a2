"""onnxruntime (1.16 and later): models that a session is made of, and what it predicts.

A model is digested, compared with the register and recorded before the session reads it, from a path or from bytes.
Weights that an ONNX file keeps in other files beside it are not part of the digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.data.digest import digest, shape
from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome, finish
from mlaudit.capture.libraries.pickle import memory
from mlaudit.capture.models.artifact_records import loading
from mlaudit.capture.models.prediction import Given, predicting
from mlaudit.catalog.names import ML_MODEL_LOADED, ML_PREDICTION

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.onnxruntime"
_hooks: Final = Hooks(COMPONENT)


class OnnxruntimeIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "onnxruntime"
    module: ClassVar[str] = "onnxruntime"

    def instrument(self) -> None:
        """Hooks the making of sessions and the ways to run them that return."""
        from onnxruntime import InferenceSession

        _hooks.around(InferenceSession, "__init__", _load, kind=ML_MODEL_LOADED)
        for name, audit in (
            ("run", _run),
            ("run_with_ort_values", _run_values),
            ("run_with_iobinding", _run_bound),
        ):
            _hooks.around(
                InferenceSession, name, audit, kind=ML_PREDICTION, outermost=True, refuse_after=True
            )

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _load(pipeline: Pipeline, call: Call) -> Audit:
    source = call.argument(0, "path_or_bytes")
    if isinstance(source, bytes | bytearray | memoryview):
        source = memory(source)
    yield from loading(
        pipeline, COMPONENT, source, models=lambda _: [call.instance], cls="onnxruntime.InferenceSession"
    )


def _run(pipeline: Pipeline, call: Call) -> Audit:
    data, given = _given(call.argument(1, "input_feed"))
    yield from predicting(pipeline, call.name, call.instance, data, given=given)


def _run_values(pipeline: Pipeline, call: Call) -> Audit:
    feed = call.argument(1, "input_dict_ort_values")
    if isinstance(feed, dict):
        feed = {name: _plain(value) for name, value in feed.items()}
    data, given = _given(feed)
    audit = predicting(pipeline, call.name, call.instance, data, given=given)
    next(audit)
    outcome = yield
    result = None if outcome.error is not None else [_plain(value) for value in outcome.result]
    finish(audit, Outcome(result, outcome.error, outcome.duration))


def _plain(value: Any) -> Any:
    """A tensor as an array; maps and sequences of onnxruntime's own have no such form."""
    return value.numpy() if value.is_tensor() else None


def _run_bound(pipeline: Pipeline, call: Call) -> Audit:
    # The inputs are bound to memory of a device: there is nothing here to digest.
    yield from predicting(pipeline, call.name, call.instance, None, given=Given())


def _given(feed: Any) -> tuple[Any, Given]:
    """What the model is given: of one input the array itself, of several all by name; rows are those of the first."""
    if not isinstance(feed, dict) or not feed:
        return feed, Given()
    first = next(iter(feed.values()))
    data = first if len(feed) == 1 else feed
    return data, Given(digest(data), *shape(first))
