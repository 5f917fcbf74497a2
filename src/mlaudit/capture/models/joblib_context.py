"""Carries the audit context into joblib's workers, whether threads or processes.

joblib dispatches batches from other threads than the one that called ``Parallel``, so the context is taken when
``Parallel`` is called. It travels as plain values in the batch's pickled state: a worker without mlaudit, on
another machine perhaps, unpickles the batch as ever.
"""

from __future__ import annotations

import functools
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.hooks import Hooks
from mlaudit.capture.nesting import Carried

if TYPE_CHECKING:
    from collections.abc import Callable

_CARRIED: Final = "_mlaudit_carried"

_users: set[str] = set()
_hooks: Final = Hooks("capture.libraries.joblib")


def install(user: str) -> None:
    """Sets the hooks for ``user`` (an integration's name); they stay until the last user removes them."""
    first = not _users
    _users.add(user)
    if not first:
        return
    from joblib import parallel as joblib_parallel

    _replace(joblib_parallel.Parallel, "__call__", _calling)
    _replace(joblib_parallel.Parallel, "_dispatch", _dispatching)
    _replace(joblib_parallel.BatchedCalls, "__call__", _running)
    _replace(joblib_parallel.BatchedCalls, "__reduce__", _pickling)


def remove(user: str) -> None:
    """Takes the hooks out again when ``user`` was the last one."""
    _users.discard(user)
    if not _users:
        _hooks.undo()


def _replace(owner: type, name: str, hook: Callable[[Any], Callable[..., Any]]) -> None:
    original = owner.__dict__.get(name)
    # Missing in another joblib, whose workers then count as callers of their own.
    if original is not None:
        _hooks.replace(owner, name, functools.wraps(original)(hook(original)))


def _calling(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        setattr(self, _CARRIED, Carried.capture())
        return original(self, *args, **kwargs)

    return call


def _dispatching(original: Callable[..., Any]) -> Callable[..., Any]:
    def dispatch(self: Any, batch: Any) -> Any:
        carried = getattr(self, _CARRIED, None)
        if carried is not None:
            setattr(batch, _CARRIED, tuple(carried))
        return original(self, batch)

    return dispatch


def _running(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any) -> Any:
        carried = getattr(self, _CARRIED, None)
        if carried is None:
            return original(self)
        context = copy_context()
        context.run(Carried(*carried).enter)
        return context.run(original, self)

    return run


def _pickling(original: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(self: Any) -> Any:
        reduced = original(self)
        carried = getattr(self, _CARRIED, None)
        if carried is None or len(reduced) != 2:
            return reduced
        return (*reduced, {_CARRIED: carried})

    return reduce
