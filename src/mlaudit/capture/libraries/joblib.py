"""joblib (1.3 and later): ``joblib.dump`` of models and ``joblib.load``.

Only the two names that people call are hooked, ``joblib.dump`` and ``joblib.load``. joblib's own cache and the
transport to its workers use other names and are not recorded. Every ``load`` is recorded, whatever the file holds,
because loading runs what is in the file: the record is made, and durable, before the first byte is unpickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Audit, Call, Hooks
from mlaudit.capture.models import joblib_context, known_models
from mlaudit.capture.models.artifact_records import loading, saving
from mlaudit.catalog.names import ML_MODEL_LOADED, ML_MODEL_SAVED

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.joblib"
_hooks: Final = Hooks(COMPONENT)


class JoblibIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "joblib"
    module: ClassVar[str] = "joblib"

    def instrument(self) -> None:
        """Hooks ``joblib.dump`` and ``joblib.load``, and carries the audit context into joblib's workers."""
        import joblib

        _hooks.around(joblib, "dump", _dump, kind=ML_MODEL_SAVED, only_here=True)
        _hooks.around(joblib, "load", _load, kind=ML_MODEL_LOADED, only_here=True)
        joblib_context.install(self.name)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        joblib_context.remove(self.name)
        _hooks.undo()


def is_instrumented() -> bool:
    """Whether the hooks are set."""
    return _hooks.are_set


def _dump(pipeline: Pipeline, call: Call) -> Audit:
    models = known_models.models_in(call.argument(0, "value"))
    if models:
        yield from saving(pipeline, COMPONENT, models, call.argument(1, "filename"))


def _load(pipeline: Pipeline, call: Call) -> Audit:
    source: Any = call.argument(0, "filename")
    yield from loading(pipeline, COMPONENT, source)
