"""pydantic-settings (2.0 and later): what a service's settings are, and what sets them while it runs.

An instance of a ``BaseSettings`` class is compared with the instance before it, in this process or at the last start
of the service; a field that is set on an instance is a change of its own. What the program passes to the class itself
is not a change and is left out. Making settings starts no audit trail: a program that only has settings leaves none.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Hooks
from mlaudit.capture.process.config_loaded import MAX_DEPTH, Loaded, compare, record_set
from mlaudit.catalog.names import ML_CONFIG_CHANGED
from mlaudit.errors import AuditRefusedError
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.pydantic_settings"
SOURCE: Final = "environment"
MAX_WAITING: Final = 100
_NOTHING: Final = object()

# Settings that were created before the trail; programs create them first.
_waiting: Final[list[tuple[Any, frozenset[str]]]] = []
_listens = False


class PydanticSettingsIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "pydantic-settings"
    module: ClassVar[str] = "pydantic_settings"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the making of settings and the setting of their fields."""
        global _listens
        from pydantic_settings import BaseSettings

        if self._hooks.are_set or hasattr(BaseSettings.__init__, _MARK):
            return
        self._hooks.replace(BaseSettings, "__init__", _watched(BaseSettings.__init__))
        self._hooks.around(BaseSettings, "__setattr__", _setting, kind=ML_CONFIG_CHANGED, when=_is_field)
        if not _listens:
            _listens = True
            current.on_start(_catch_up)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        self._hooks.undo()
        _waiting.clear()


_MARK: Final = "__mlaudit_settings__"


def _watched(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def made(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        pipeline = current.running()
        if pipeline is None:
            if len(_waiting) < MAX_WAITING:
                _waiting.append((args[0], frozenset(kwargs)))
        else:
            _compare(pipeline, args[0], kwargs)

    setattr(made, _MARK, True)
    return made


def _catch_up(pipeline: Pipeline) -> None:
    while _waiting:
        _compare(pipeline, *_waiting.pop(0))


def _compare(pipeline: Pipeline, settings: Any, given: Any) -> None:
    try:
        compare(pipeline, _loaded(settings, given))
    except AuditRefusedError:
        return  # the settings are as they are; the pipeline has counted it
    except Exception as error:  # noqa: BLE001 - auditing never breaks the program
        pipeline.fault(COMPONENT, error)


def _is_field(call: Call) -> bool:
    name = call.argument(0, "name")
    return name in getattr(type(call.instance), "model_fields", ())


def _setting(pipeline: Pipeline, call: Call) -> Audit:
    name, value = call.argument(0, "name"), call.argument(1, "value")
    path = _path(type(call.instance))
    before = Loaded(SOURCE, path, {})
    _add(before, name, getattr(call.instance, name, _NOTHING))
    outcome = yield
    now = Loaded(SOURCE, path, {})
    # As the model has it, which may have parsed it; what was refused is not there.
    _add(now, name, getattr(call.instance, name, _NOTHING) if outcome.error is None else value)
    record_set(pipeline, before, now, outcome.error)


def _loaded(settings: Any, given: Any) -> Loaded:
    fields = type(settings).model_fields
    unsaid = frozenset(name for name, about in fields.items() if name in given or about.alias in given)
    loaded = Loaded(SOURCE, _path(type(settings)), {}, unsaid=unsaid)
    for name in fields:
        if name not in unsaid:
            _add(loaded, name, getattr(settings, name, _NOTHING))
    return loaded


def _add(loaded: Loaded, key: str, value: Any, depth: int = 0) -> None:
    """Adds a value under its key, the fields of models and dicts under dotted ones."""
    if value is _NOTHING:
        return
    fields = getattr(type(value), "model_fields", None)
    if isinstance(fields, dict) and fields and depth < MAX_DEPTH:
        for name in fields:
            _add(loaded, f"{key}.{name}", getattr(value, name, _NOTHING), depth + 1)
    elif isinstance(value, dict) and value and depth < MAX_DEPTH:
        for name, item in value.items():
            _add(loaded, f"{key}.{name}", item, depth + 1)
    elif hasattr(type(value), "get_secret_value"):
        loaded.secrets.add(key)
        secret = value.get_secret_value()
        loaded.values[key] = secret if isinstance(secret, str) else repr(secret)
    elif isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        loaded.values[key] = [str(item) for item in items]
        if any(hasattr(type(item), "get_secret_value") for item in value):
            loaded.secrets.add(key)
            loaded.values[key] = [
                repr(getattr(item, "get_secret_value", lambda item=item: item)()) for item in items
            ]
    else:
        loaded.values[key] = value if isinstance(value, str | int | float | bool | None) else str(value)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
