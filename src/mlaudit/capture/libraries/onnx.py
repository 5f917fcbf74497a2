"""onnx (1.15 and later): models saved by ``onnx.save``, with the digest of the file.

The model is the one in memory, whichever tool converted it: the record carries the run under way, if there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Audit, Call, Hooks
from mlaudit.capture.models.artifact_records import saving
from mlaudit.catalog.names import ML_MODEL_SAVED

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.onnx"
_hooks: Final = Hooks(COMPONENT)


class OnnxIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "onnx"
    module: ClassVar[str] = "onnx"

    def instrument(self) -> None:
        """Hooks ``onnx.save`` and ``onnx.save_model``, which are one function with two names."""
        import onnx

        for name in ("save", "save_model"):
            _hooks.around(onnx, name, _save, kind=ML_MODEL_SAVED, only_here=True)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _save(pipeline: Pipeline, call: Call) -> Audit:
    model: Any = call.argument(0, "proto")
    yield from saving(pipeline, COMPONENT, [model], call.argument(1, "f"))
