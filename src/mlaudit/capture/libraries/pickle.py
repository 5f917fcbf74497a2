"""pickle: models that the program itself saves and loads, by ``load``, ``loads``, ``dump`` and ``dumps``.

Only the names of the module are hooked, and only calls of the program count: what multiprocessing, joblib, pandas and
other libraries pickle for their own purposes is not recorded. A file or a text that names a library of models at its
beginning is recorded before the first byte is unpickled, because loading runs what is in it. Any other is recorded
after the call, if it returned a model; anything that is not a model leaves no record here.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Audit, Call, Hooks, Outcome, finish
from mlaudit.capture.models import known_models
from mlaudit.capture.models.artifact_records import loading, saving
from mlaudit.capture.nesting import inside
from mlaudit.catalog.names import ML_MODEL_LOADED, ML_MODEL_SAVED

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.pickle"
_HEAD: Final = 4096
# In the first bytes of a pickle of a model stands the module of its class.
_MARKS: Final = re.compile(rb"sklearn|lightgbm|xgboost|catboost|torch|keras|imblearn|statsmodels")
# Libraries that pickle for their own purposes, the standard library among them.
_LIBRARIES: Final = frozenset(
    {
        "catboost",
        "cloudpickle",
        "dask",
        "dill",
        "diskcache",
        "distributed",
        "django",
        "execnet",
        "hypothesis",
        "joblib",
        "keras",
        "kombu",
        "lightgbm",
        "lightning",
        "loky",
        "mlaudit",
        "mlflow",
        "numpy",
        "optuna",
        "pandas",
        "pyspark",
        "pytorch_lightning",
        "ray",
        "sklearn",
        "sqlalchemy",
        "torch",
        "transformers",
        "xgboost",
    }
)
_hooks: Final = Hooks(COMPONENT)


class PickleIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "pickle"
    module: ClassVar[str] = "pickle"

    def instrument(self) -> None:
        """Hooks the four functions of the module."""
        for name, audit, kind, when in (
            ("dump", _dump, ML_MODEL_SAVED, _may_be_a_model),
            ("dumps", _dumps, ML_MODEL_SAVED, _may_be_a_model),
            ("load", _load, ML_MODEL_LOADED, _is_the_programs),
            ("loads", _loads, ML_MODEL_LOADED, _is_the_programs),
        ):
            _hooks.around(pickle, name, audit, kind=kind, when=when, only_here=True)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def _is_the_programs(_: Call, deeper: int = 0) -> bool:
    """Whether the program called, rather than a library: by the module of the frame behind the hook's own."""
    if inside.get():
        return False
    # This function, the hook's beginning, the hook, and its caller.
    caller = str(sys._getframe(3 + deeper).f_globals.get("__name__", "")).partition(".")[0]  # noqa: SLF001
    return caller not in _LIBRARIES and caller not in sys.stdlib_module_names


def _may_be_a_model(call: Call) -> bool:
    """A process that pickles something else begins no trail for it."""
    return bool(known_models.models_in(call.argument(0, "obj"))) and _is_the_programs(call, 1)


class memory:  # noqa: N801 - its name stands in records as what the pickle was in
    """Bytes as a file that can be read, and nothing else; not copied."""

    def __init__(self, content: Any = b"") -> None:
        self.content = memoryview(content)
        self._place = 0

    def seekable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._place

    def seek(self, place: int) -> None:
        """Sets the position."""
        self._place = place

    def read(self, size: int = -1) -> memoryview:
        """The next bytes."""
        end = len(self.content) if size < 0 else min(self._place + size, len(self.content))
        found = self.content[self._place : end]
        self._place = end
        return found


def _dump(pipeline: Pipeline, call: Call) -> Audit:
    models = known_models.models_in(call.argument(0, "obj"))
    if not models:
        return
    file = call.argument(1, "file")
    path = _path_of(file) if type(file) is io.BufferedWriter else ""
    audit = saving(pipeline, COMPONENT, models, path or file)
    if not _begins(audit):
        return
    outcome = yield
    if path and outcome.error is None:
        # What was written is read back from the disk.
        file.flush()
    finish(audit, outcome)


def _dumps(pipeline: Pipeline, call: Call) -> Audit:
    models = known_models.models_in(call.argument(0, "obj"))
    if not models:
        return
    target = memory()
    audit = saving(pipeline, COMPONENT, models, target)
    if not _begins(audit):
        return
    outcome = yield
    if outcome.error is None:
        target.content = memoryview(outcome.result)
        target.seek(len(target.content))
    finish(audit, outcome)


def _load(pipeline: Pipeline, call: Call) -> Audit:
    file = call.argument(0, "file")
    path = _path_of(file) if type(file) is io.BufferedReader else ""
    if path and _is_marked(file.peek(_HEAD)):
        yield from loading(pipeline, COMPONENT, path)
        return
    outcome = yield
    if outcome.error is None and known_models.models_in(outcome.result):
        _behind(loading(pipeline, COMPONENT, path or file), outcome)


def _loads(pipeline: Pipeline, call: Call) -> Audit:
    data = call.argument(0, "data")
    source = memory(data)
    if _is_marked(source.content[:_HEAD].tobytes()):
        yield from loading(pipeline, COMPONENT, source)
        return
    outcome = yield
    if outcome.error is None and known_models.models_in(outcome.result):
        _behind(loading(pipeline, COMPONENT, source), outcome)


def _begins(audit: Audit) -> bool:
    """Runs the first half of an audit; False when it ended there."""
    return next(audit, audit) is not audit


def _behind(audit: Audit, outcome: Outcome) -> None:
    """Both halves of an audit, of a finished call."""
    if _begins(audit):
        finish(audit, outcome)


def _is_marked(content: bytes) -> bool:
    return _MARKS.search(content, 0, _HEAD) is not None


def _path_of(file: Any) -> str:
    """The path of an open file that stands at its beginning; "" for any other."""
    name = getattr(file, "name", None)
    if not isinstance(name, str) or file.tell() != 0:
        return ""
    try:
        on_disk, opened = os.stat(name), os.fstat(file.fileno())  # noqa: PTH116
    except (OSError, ValueError):
        return ""
    return os.path.abspath(name) if os.path.samestat(on_disk, opened) else ""  # noqa: PTH100
