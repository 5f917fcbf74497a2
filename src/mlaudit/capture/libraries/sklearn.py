"""scikit-learn (1.4 and later): training, evaluation and prediction by any estimator, recorded at the outermost call.

Methods are wrapped in place, in the class that defines them, for every subclass of ``BaseEstimator`` that exists
and, by ``__init_subclass__``, for every one to come: scikit-learn's, other packages', the user's own. Wrappers are
plain functions with ``__wrapped__``, and ``available_if`` methods keep their descriptor, so ``hasattr``, signatures,
cloning, pickling and metadata routing see what they saw before.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Final

import wrapt

from mlaudit.capture.models import joblib_context, scoring, sklearn_calls
from mlaudit.capture.models.estimator_runs import COMPONENT
from mlaudit.pipeline import current

_Call = Callable[[Callable[..., Any], str, Any, tuple[Any, ...], dict[str, Any]], Any]

_VALIDATION: Final = "sklearn.model_selection._validation"
_EVALUATIONS: Final = (
    "cross_validate",
    "cross_val_score",
    "cross_val_predict",
    "learning_curve",
    "permutation_test_score",
    "validation_curve",
)


class SklearnIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "sklearn"
    module: ClassVar[str] = "sklearn.base"

    def instrument(self) -> None:
        """Hooks every estimator class that exists and that will."""
        from sklearn.base import BaseEstimator

        if _state.base is not None:
            return
        _state.base = BaseEstimator
        joblib_context.install(self.name)
        scoring.install()
        _watch_subclasses(BaseEstimator)
        waiting = [BaseEstimator]
        while waiting:
            cls = waiting.pop()
            waiting += cls.__subclasses__()
            _hook_class(cls)
        if not _state.waiting:
            _state.waiting = True
            wrapt.register_post_import_hook(_hook_validation, _VALIDATION)
        elif _VALIDATION in sys.modules:
            _hook_validation(sys.modules[_VALIDATION])

    def uninstrument(self) -> None:
        """Puts every original back."""
        if _state.base is None:
            return
        joblib_context.remove(self.name)
        scoring.remove()
        _state.base = None
        while _state.undo:
            _state.undo.pop()()


def is_instrumented() -> bool:
    """Whether the hooks are set."""
    return _state.base is not None


class _State:
    base: type | None = None
    waiting = False

    def __init__(self) -> None:
        self.undo: list[Callable[[], None]] = []
        # Not an attribute of the wrapper: functools.wraps would copy it onto whatever wraps the wrapper.
        self.wrappers: weakref.WeakSet[Any] = weakref.WeakSet()


_state = _State()


_AUDITED: Final[dict[str, _Call]] = {
    "fit": sklearn_calls.fit,
    "fit_predict": sklearn_calls.fit,
    "fit_transform": sklearn_calls.fit,
    "partial_fit": sklearn_calls.fit,
    "predict": sklearn_calls.predict,
    "predict_proba": sklearn_calls.predict,
    "predict_log_proba": sklearn_calls.predict,
    "decision_function": sklearn_calls.predict,
    "score": sklearn_calls.score,
    "transform": sklearn_calls.prepare,
}


def _watch_subclasses(base: Any) -> None:
    own = base.__dict__.get("__init_subclass__")

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        if own is not None:
            own.__func__(cls, **kwargs)
        else:
            super(base, cls).__init_subclass__(**kwargs)
        _hook_class(cls)

    base.__init_subclass__ = classmethod(init_subclass)

    def undo() -> None:
        if own is not None:
            base.__init_subclass__ = own
        else:
            del base.__init_subclass__

    _state.undo.append(undo)


def _hook_class(cls: type) -> None:
    """Wraps the audited methods that ``cls`` has, where they are defined: in it, a base or a mixin."""
    try:
        for name, call in _AUDITED.items():
            owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
            if owner is not None:
                _hook_method(owner, name, call)
    except Exception as error:  # noqa: BLE001 - a class that cannot be hooked must still come to be
        pipeline = current.pipeline()
        if pipeline is not None:
            pipeline.fault(COMPONENT, error)


def _hook_method(owner: type, name: str, call: _Call) -> None:
    found = owner.__dict__[name]
    if isinstance(found, FunctionType) or type(found).__name__ == "cython_function_or_method":
        if found in _state.wrappers:
            return
        wrapper = _wrapper(found, name, call)
        try:
            setattr(owner, name, wrapper)
        except TypeError:  # an extension type
            return
        # Weakly: classes may be made and forgotten by the thousand.
        _state.undo.append(functools.partial(_unhook_method, weakref.ref(owner), name))
    elif type(found).__name__ == "_AvailableIfDescriptor" and found.fn not in _state.wrappers:
        function = found.fn
        found.fn = _wrapper(function, name, call)

        def undo_descriptor() -> None:
            found.fn = function

        _state.undo.append(undo_descriptor)


def _unhook_method(owner: weakref.ref[type], name: str) -> None:
    cls = owner()
    wrapper = None if cls is None else cls.__dict__.get(name)
    if wrapper is not None and wrapper in _state.wrappers:
        setattr(cls, name, wrapper.__wrapped__)


def _wrapper(original: Any, name: str, call: _Call) -> Any:
    # Refers to nothing but picklable things: cloudpickle ships classes of __main__ to workers by value.
    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return call(original, name, self, args, kwargs)

    _state.wrappers.add(wrapper)
    return wrapper


def _hook_validation(module: ModuleType) -> None:
    """The functions that train many models only to judge them: one evaluation record each."""
    if _state.base is None:
        return
    package = sys.modules.get("sklearn.model_selection")
    for name in _EVALUATIONS:
        original = getattr(module, name, None)
        if original is None:
            continue
        wrapper = sklearn_calls.evaluation(original, name)
        for place in (module, package):
            if place is not None and getattr(place, name, None) is original:
                setattr(place, name, wrapper)
                _state.undo.append(functools.partial(setattr, place, name, original))
