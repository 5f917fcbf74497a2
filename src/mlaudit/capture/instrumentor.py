"""Switching on: the hooks that wait for a library to be imported, and the entry points of OpenTelemetry.

``activate`` is cheap and opens nothing. Only when a hooked library is imported are its hooks set, and only when one of
them is called does the pipeline start: a process that does no machine learning leaves no trail.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
import threading
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import wrapt

from mlaudit.capture.integrations import INTEGRATIONS
from mlaudit.pipeline import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.integrations import Integration, Registration
    from mlaudit.pipeline.pipeline import Pipeline

PROVIDERS: Final = (
    ("opentelemetry.trace", "set_tracer_provider", "attach_to_tracer_provider"),
    ("opentelemetry._logs", "set_logger_provider", "attach_to_logger_provider"),
)
RUNTIME: Final = "mlaudit.capture.watch"
CURRENT: Final = "mlaudit.pipeline.current"
CORE: Final = "mlaudit.pipeline.pipeline"

_log = logging.getLogger("mlaudit")
_lock = threading.RLock()
_arming = threading.Lock()
_active = False
_registered = False
_armed = False
_whole = False
_watch_process = True
_set: dict[str, Integration] = {}
# Hooks of modules that our own pipeline imported: set once it is whole.
_waiting: list[tuple[Registration, object]] = []


def activate(*, watch_process: bool = True) -> None:
    """Sets the hooks for every library that is imported, now or later. Idempotent; never raises.

    Not in the ``mlaudit`` command itself, which must not audit what it does to the trail. Without
    ``watch_process`` the start, stop and crash of the process itself are left out, as in tests.
    """
    global _active, _registered, _watch_process
    with _lock:
        if _active or _is_own_command():
            return
        _active = True
        _watch_process = watch_process
        first, _registered = not _registered, True
        disabled = {name.strip() for name in os.environ.get("MLAUDIT_DISABLED_LIBRARIES", "").split(",")}
        for registration in INTEGRATIONS:
            if registration.name in disabled:
                continue
            if first:
                hook = functools.partial(_contained, _set_hooks, registration)
                wrapt.register_post_import_hook(hook, registration.module)
            elif registration.module in sys.modules:
                _contained(_set_hooks, registration, sys.modules[registration.module])
        if first:
            _contained(metrics.install, _running_pipeline)
            # A program may record its own events alone, without any hooked library.
            wrapt.register_post_import_hook(lambda _module: _pipeline_is_whole(), CURRENT)
            wrapt.register_post_import_hook(lambda _module: importlib.import_module(CURRENT), CORE)
            for module, setter, attach in PROVIDERS:
                hook = functools.partial(_contained, _watch_provider, setter, attach)
                wrapt.register_post_import_hook(hook, module)


def deactivate() -> None:
    """Removes every hook; a later ``activate`` sets them again."""
    global _active
    with _lock:
        _active = False
        for name, integration in tuple(_set.items()):
            _contained(integration.uninstrument)
            del _set[name]


def pre_instrument() -> None:
    """``opentelemetry_pre_instrument``: after the configurator, before any instrumentation makes a tracer.

    Spans that the sampler drops are recorded for the audit, but not exported: with ``always_off`` nothing goes to
    the trace backend, and the audit is complete.
    """
    if _is_on():
        _contained(_otel, "attach_to_current_providers")


def post_instrument() -> None:
    """``opentelemetry_post_instrument``: the hooks, also where the launcher skipped every instrumentor."""
    if _is_on():
        activate()
        _contained(_otel, "attach_to_current_providers")
        _contained(_otel, "leave_to_launcher")


def _running_pipeline() -> Pipeline | None:
    """The pipeline if it has started; the metrics, which call this, start none."""
    module: Any = sys.modules.get(CURRENT)
    running: Pipeline | None = None if module is None else module.running()
    return running


def _pipeline_is_whole() -> None:
    global _whole
    _whole = True
    _arm()
    with _lock:
        waiting = tuple(_waiting)
        _waiting.clear()
    for registration, module in waiting:
        _contained(_set_hooks, registration, module)


def _is_half_imported() -> bool:
    """Whether the pipeline is being imported, so that nothing that needs it can be imported yet."""
    return not _whole and (CURRENT in sys.modules or CORE in sys.modules)


def _set_hooks(registration: Registration, _module: object) -> None:
    if _is_half_imported():
        # What is hooked is what the pipeline itself needs, e.g. pickle: the integration could not use it yet.
        _waiting.append((registration, _module))
        return
    with _lock:
        if not _active or registration.name in _set:
            return
        _arm()
        integration = registration.load()
        integration.instrument()
        _set[registration.name] = integration


def _arm() -> None:
    """Once, before the first hook or event: what watches the process itself (start, stop, crash, files, …)."""
    global _armed
    if _is_half_imported():
        return  # half imported, by way of a library that is hooked itself; its own hook arms when it is there
    with _arming:  # released before anything is imported: an importing thread may wait for ``_lock``
        if _armed or not (_active and _watch_process):
            return
        _armed = True
    _contained(lambda: importlib.import_module(RUNTIME).install())


def _watch_provider(setter: str, attach: str, module: Any) -> None:
    """Adds the audit's processor to every provider that is set, now or later."""

    @wrapt.decorator
    def watched(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        if _active:
            _contained(_otel, attach, *args, **kwargs)
        return result

    setattr(module, setter, watched(getattr(module, setter)))


def _otel(name: str, *args: Any, **kwargs: Any) -> None:
    getattr(importlib.import_module("mlaudit.capture.telemetry.providers"), name)(*args, **kwargs)


def _contained(work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Runs ``work``; a fault is reported, and reaches neither the importing program nor the interpreter."""
    try:
        work(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - contained: an audited program must start as it would without mlaudit
        fault = error
        _log.error("mlaudit: a hook could not be set: %s: %s", type(fault).__name__, fault)
        from mlaudit.pipeline import current

        current.on_start(lambda started: started.fault("instrumentor", fault))


def _is_on() -> bool:
    # Imported here: the ``.pth`` start has checked the variable and does not pay for the settings.
    from mlaudit.settings import is_enabled

    return is_enabled()


def _is_own_command() -> bool:
    original = getattr(sys, "orig_argv", [])
    for before, argument in zip(["", *original], original, strict=False):
        if before == "-m" and argument.partition(".")[0] == "mlaudit":
            return True
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    return PurePath(script).name in ("mlaudit", "mlaudit.exe")
