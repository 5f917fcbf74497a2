"""What a record says about an estimator: class, library, parameters, and what kind of thing it is.

Nothing here imports scikit-learn: what is described has been imported by its creator.
"""

from __future__ import annotations

import math
import reprlib
import sys
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.data.digest import digest, shape
from mlaudit.capture.shorten import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_TEXT: Final = 256
MAX_PARAMETERS: Final = 200
_MAX_NESTING: Final = 4
_PREDICTS: Final = ("predict", "fit_predict", "predict_proba", "decision_function")
_SEARCHES: Final = ("BaseSearchCV", "OptunaSearchCV")
FOREIGN: Final = 0
PREPARATION: Final = 1
MODEL: Final = 2
_DISTRIBUTIONS: Final = {"sklearn": "scikit-learn", "imblearn": "imbalanced-learn"}

_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = 20
_short.maxstring = _short.maxother = MAX_TEXT
_short.maxlevel = 4


def is_estimator(value: object) -> bool:
    """Whether it is a scikit-learn estimator, without importing scikit-learn."""
    return role(type(value)) != FOREIGN


def _role(cls: type) -> int:
    """What calls of this class are: ``FOREIGN`` (not scikit-learn's), ``PREPARATION`` or ``MODEL``.

    A model is what predicts, and any pipeline. The rest (scalers, vectorizers, selectors) prepares data: what such
    an estimator does, and fits inside, is no training run of its own.
    """
    bases = cls.__mro__
    if not any(base.__name__ == "BaseEstimator" and base.__module__ == "sklearn.base" for base in bases):
        return FOREIGN
    if any(hasattr(cls, name) for name in _PREDICTS) or any(base.__name__ == "Pipeline" for base in bases):
        return MODEL
    return PREPARATION


role: Final[Callable[[Any], int]] = lru_cache(maxsize=1024)(_role)


def _class_name(cls: type) -> str:
    """The class as its users import it: ``sklearn.svm.SVC``, not ``sklearn.svm._classes.SVC``."""
    module = cls.__module__
    parts = module.split(".")
    for end in range(1, len(parts)):
        if not any(part.startswith("_") for part in parts[end:]):
            continue
        public = ".".join(parts[:end])
        if getattr(sys.modules.get(public), cls.__name__, None) is cls:
            return f"{public}.{cls.__qualname__}"
    return f"{module}.{cls.__qualname__}"


class_name: Final[Callable[[Any], str]] = lru_cache(maxsize=1024)(_class_name)


def _library(cls: type) -> tuple[str, str]:
    """Distribution name and version of the library that defines the class; "" where it has none."""
    top = cls.__module__.partition(".")[0]
    name = _DISTRIBUTIONS.get(top, top)
    version = getattr(sys.modules.get(top), "__version__", "")
    if not isinstance(version, str) or not version:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
    return name, version


library: Final[Callable[[Any], tuple[str, str]]] = lru_cache(maxsize=1024)(_library)


def is_search(estimator: object) -> bool:
    """Whether it searches hyperparameters (``GridSearchCV`` and relatives, ``OptunaSearchCV``)."""
    return any(base.__name__ in _SEARCHES for base in type(estimator).__mro__)


def score_name(estimator: Any, depth: int = 0) -> str:
    """What the number is that its ``score`` returns: ``accuracy``, ``r2``, a scorer's name, else ``score``."""
    if is_search(estimator):
        scoring = getattr(estimator, "scoring", None)
        if isinstance(scoring, str):
            return scoring
        inner = None if scoring is not None else getattr(estimator, "estimator", None)
    else:
        steps = getattr(estimator, "steps", None)
        inner = steps[-1][1] if isinstance(steps, list) and steps else None
    if inner is not None and depth < _MAX_NESTING:
        return score_name(inner, depth + 1)
    owner = next((base.__name__ for base in type(estimator).__mro__ if "score" in base.__dict__), "")
    return {"ClassifierMixin": "accuracy", "RegressorMixin": "r2"}.get(owner, "score")


def parameters(estimator: Any) -> dict[str, str]:
    """The parameters and those of nested estimators (``clf__C``), as short texts; at most ``MAX_PARAMETERS``."""
    found: dict[str, str] = {}
    _collect(estimator, "", found, 0)
    return found


def _collect(estimator: Any, prefix: str, found: dict[str, str], depth: int) -> None:
    for name, value in _get_params(estimator).items():
        if len(found) >= MAX_PARAMETERS:
            return
        key = f"{prefix}{name}"
        steps = _named_estimators(value)
        if steps:
            found[key] = ", ".join(f"{step}: {_kind(part)}" for step, part in steps)
        elif hasattr(value, "get_params"):
            found[key] = _kind(value)
            steps = [(name, value)]
        else:
            found[key] = text(value)
        if depth < _MAX_NESTING:
            for step, part in steps:
                if hasattr(part, "get_params") and not isinstance(part, type):
                    # As scikit-learn itself names them: a step's name, or the parameter's.
                    _collect(part, f"{prefix}{step}__", found, depth + 1)


def _get_params(estimator: Any) -> Mapping[str, Any]:
    try:
        found = estimator.get_params(deep=False)
    except Exception:  # noqa: BLE001 - a foreign class may lack what scikit-learn asks of it
        return {}
    return found if isinstance(found, dict) else {}


def _named_estimators(value: Any) -> list[tuple[str, Any]]:
    """``steps``, ``transformers`` or ``estimators``: tuples that begin with a name and an estimator."""
    if not isinstance(value, list | tuple) or not value:
        return []
    named = [
        (item[0], item[1])
        for item in value
        if isinstance(item, tuple)
        and len(item) > 1
        and isinstance(item[0], str)
        # Strings stand for "drop" and "passthrough".
        and (hasattr(item[1], "get_params") or isinstance(item[1], str) or item[1] is None)
    ]
    return named if len(named) == len(value) and any(hasattr(part, "get_params") for _, part in named) else []


def _kind(value: Any) -> str:
    return value if isinstance(value, str) else str(getattr(type(value), "__name__", "?"))


def text(value: Any) -> str:
    """A value as text of at most ``MAX_TEXT`` characters; data as its shape and digest, never its content."""
    try:
        found = _text(value)
    except Exception as error:  # noqa: BLE001 - a foreign object may raise anything when it is asked who it is
        found = f"<{type(value).__name__} that raises {type(error).__name__}>"
    return shortened(found, MAX_TEXT)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return repr(float(value))
    if hasattr(value, "shape"):
        if value.shape == ():
            return str(value)
        size = "x".join(str(number) for number in shape(value) if number is not None)
        kind = getattr(value, "dtype", type(value).__name__)
        return f"<{size} {kind} {digest(value)[:24]}>"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    return _short.repr(value)


def number(value: Any) -> float | str | None:
    """A metric as a float, as text when it is not finite (JSON has no NaN), None when it is no number."""
    if isinstance(value, bool | str | bytes) or value is None:
        return None
    size = getattr(value, "shape", ())
    if size != ():
        # NumPy warns when an array of one element is made a number.
        if size != (1,):
            return None
        value = value[0]
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else str(found)
