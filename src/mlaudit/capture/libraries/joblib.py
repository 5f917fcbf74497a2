"""joblib (1.3 and later): ``joblib.dump`` of models and ``joblib.load``.

Only the two names that people call are hooked, ``joblib.dump`` and ``joblib.load``. joblib's own cache and the
transport to its workers use other names and stay silent. Every ``load`` is recorded, whatever the file holds,
because loading runs what is in the file: the record is made, and durable, before the first byte is unpickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.libraries import known, parallel
from mlaudit.capture.libraries.artifact_records import LOADED, SAVED, loading, saving
from mlaudit.capture.libraries.hooks import Audit, Call, Hooks

if TYPE_CHECKING:
    from mlaudit.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.joblib"
_hooks: Final = Hooks(COMPONENT)


class JoblibIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "joblib"
    module: ClassVar[str] = "joblib"

    def instrument(self) -> None:
        """Hooks ``joblib.dump`` and ``joblib.load``, and carries the audit context into joblib's workers."""
        import joblib

        _hooks.around(joblib, "dump", _dump, kind=SAVED, only_here=True)
        _hooks.around(joblib, "load", _load, kind=LOADED, only_here=True)
        parallel.install(self.name)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        parallel.remove(self.name)
        _hooks.undo()


def is_instrumented() -> bool:
    """Whether the hooks are set."""
    return _hooks.are_set


def _dump(current: Pipeline, call: Call) -> Audit:
    models = known.models_in(call.argument(0, "value"))
    if models:
        yield from saving(current, COMPONENT, models, call.argument(1, "filename"))


def _load(current: Pipeline, call: Call) -> Audit:
    source: Any = call.argument(0, "filename")
    yield from loading(current, COMPONENT, source)
