"""scikit-learn (1.4 and later): training, evaluation and prediction by any estimator, recorded at the outermost call.

Methods are wrapped in place, in the class that defines them, for every subclass of ``BaseEstimator`` that exists
and, by ``__init_subclass__``, for every one to come: scikit-learn's, other packages', the user's own. Wrappers are
plain functions with ``__wrapped__``, and ``available_if`` methods keep their descriptor, so ``hasattr``, signatures,
cloning, pickling and metadata routing see what they saw before.
"""

from __future__ import annotations

import contextlib
import sys
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Final

from mlaudit.capture.hooks import Hooks, MakeAudit, is_hook
from mlaudit.capture.models import joblib_context, scoring, sklearn_calls
from mlaudit.capture.models.estimator_runs import COMPONENT
from mlaudit.catalog.names import ML_PREDICTION, ML_TRAINING_EVALUATED, ML_TRAINING_STARTED
from mlaudit.pipeline import current

_AUDITED: Final[dict[str, tuple[MakeAudit | None, str]]] = {
    **dict.fromkeys(
        ("fit", "fit_predict", "fit_transform", "partial_fit"), (sklearn_calls.train, ML_TRAINING_STARTED)
    ),
    **dict.fromkeys(
        ("predict", "predict_proba", "predict_log_proba", "decision_function"),
        (sklearn_calls.predict, ML_PREDICTION),
    ),
    "score": (sklearn_calls.score, ML_TRAINING_EVALUATED),
    "transform": (None, ""),
}
_EVALUATIONS: Final = (
    "cross_validate",
    "cross_val_score",
    "cross_val_predict",
    "learning_curve",
    "permutation_test_score",
    "validation_curve",
)
_hooks: Final = Hooks(COMPONENT)


class SklearnIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "sklearn"
    module: ClassVar[str] = "sklearn.base"

    def instrument(self) -> None:
        """Hooks every estimator class that exists and that will, and what judges models, once it is imported."""
        from sklearn.base import BaseEstimator

        if _hooks.are_set:
            return
        joblib_context.install(self.name)
        _hooks.when_undone(lambda: joblib_context.remove(self.name))
        _watch_subclasses(BaseEstimator)
        waiting = [BaseEstimator]
        while waiting:
            cls = waiting.pop()
            waiting += cls.__subclasses__()
            _hook_class(cls)
        _hooks.when_imported("sklearn.metrics", lambda module: scoring.hook(_hooks, module))
        _hooks.when_imported("sklearn.model_selection._validation", _hook_validation)

    def uninstrument(self) -> None:
        """Puts every original back."""
        _hooks.undo()


def is_instrumented() -> bool:
    """Whether the hooks are set."""
    return _hooks.are_set


def _watch_subclasses(base: Any) -> None:
    own = base.__dict__.get("__init_subclass__")

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        if own is not None:
            own.__func__(cls, **kwargs)
        else:
            super(base, cls).__init_subclass__(**kwargs)
        # Somebody who wrapped it may keep it longer than the hooks are set.
        if _hooks.are_set:
            _hook_class(cls)

    _hooks.replace(base, "__init_subclass__", classmethod(init_subclass))


def _hook_class(cls: type) -> None:
    """Hooks the audited methods that ``cls`` has, where they are defined: in it, a base or a mixin."""
    try:
        for name in _AUDITED:
            owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
            if owner is not None:
                _hook_method(owner, name)
    except Exception as error:  # noqa: BLE001 - a class that cannot be hooked must still come to be
        pipeline = current.pipeline()
        if pipeline is not None:
            pipeline.fault(COMPONENT, error)


def _hook_method(owner: Any, name: str) -> None:
    found, attribute = owner.__dict__[name], name
    if type(found).__name__ == "_AvailableIfDescriptor":
        owner, attribute, found = found, "fn", found.fn
    elif not isinstance(found, FunctionType) and type(found).__name__ != "cython_function_or_method":
        return
    if is_hook(found):
        return
    audit, kind = _AUDITED[name]
    with contextlib.suppress(TypeError):  # an extension type
        _hooks.around(
            owner,
            attribute,
            audit,
            kind=kind,
            outermost=True,
            # Once trained, a model is the program's.
            refuse_after=kind != ML_TRAINING_STARTED,
            when=sklearn_calls.of_estimator,
            method=name,
        )


def _hook_validation(module: ModuleType) -> None:
    package = sys.modules.get("sklearn.model_selection")
    for name in _EVALUATIONS:
        # While the package is imported, it does not have them yet; later, both places must have the same.
        _hooks.around(
            package if hasattr(package, name) else module,
            name,
            sklearn_calls.cross_validate,
            kind=ML_TRAINING_EVALUATED,
            outermost=True,
            refuse_after=True,
            when=sklearn_calls.on_estimator,
        )
