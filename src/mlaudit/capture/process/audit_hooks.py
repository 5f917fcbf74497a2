"""The runtime's own audit events (PEP 578): one hook, which looks up who wants to know.

The interpreter calls the hook for thousands of events that do not matter here, so it does one dictionary lookup for
each and nothing else. A hook cannot be taken off again: ``uninstall`` empties the dictionary, after which the hook does
nothing. While a handler runs, events of the same thread are its own doing and are left alone; so is what happens while
the pipeline is at work (see ``frames``). Records are made by a thread of their own (see ``aside``).

Nothing here begins a trail but an unpickler that is asked for something dangerous: what happens earlier is kept, up to
a bound, and told when the trail begins, with its own time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.origin import originate
from mlaudit.capture.process.background import aside
from mlaudit.capture.process.caller import caller
from mlaudit.errors import AuditRefusedError
from mlaudit.event import Target
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from mlaudit.event import AuditEvent
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.audit_hooks"
MAX_PENDING: Final = 100
PATIENCE: Final = 0.5

_handlers: Final[dict[str, Callable[[str, tuple[Any, ...]], None]]] = {}
_harmless: Final[dict[str, Container[tuple[Any, ...]]]] = {}
_pending: Final[list[AuditEvent]] = []
_added = False


class _Busy(threading.local):
    now = False


_busy: Final = _Busy()


def handle(
    handlers: Mapping[str, Callable[[str, tuple[Any, ...]], None]],
    harmless: Container[tuple[Any, ...]] = frozenset(),
) -> None:
    """Sets who is called with which event, its name and its arguments; adds the hook with the first of them.

    Args:
        handlers: by the name of the event.
        harmless: arguments of which nobody needs to be told; may grow and shrink.
    """
    global _added
    _harmless.update(dict.fromkeys(handlers, harmless))
    _handlers.update(handlers)
    if not _added:
        _added = True
        sys.addaudithook(_make_hook(_handlers, _harmless, _run))


def leave(*events: str) -> None:
    """These events have no handler any more."""
    for event in events:
        _handlers.pop(event, None)


def uninstall() -> None:
    """No event has a handler any more, and nothing waits to be told; for tests."""
    aside.finish()
    _handlers.clear()
    _pending.clear()


def tell(event: AuditEvent, *, begins: bool = False, before: bool = False) -> None:
    """Records an event of the runtime; keeps it for the beginning of the trail where there is none yet.

    Args:
        event: what happened; without a target, it happened to the service.
        begins: the trail begins with it.
        before: what is about to happen may end the process, or must not happen unrecorded: waits for the record, for
            half a second at most.

    Raises:
        AuditRefusedError: ``before``, it could not be recorded and the policy says refuse.
    """
    pipeline = current.pipeline() if begins else current.running()
    originate(event)
    if pipeline is None:
        if len(_pending) < MAX_PENDING:
            _pending.append(event)
        return
    refused: list[AuditRefusedError] = []
    done = aside.do(
        lambda: _emit(pipeline, event, refused),
        PATIENCE if before else 0.0,
        instead=lambda: pipeline.fault(COMPONENT, OverflowError(), kind=event.kind, outcome=event.outcome),
    )
    if not before:
        return
    if not done and pipeline.policy.can_refuse and pipeline.decide(event.kind).on_failure == "refuse":
        pipeline.refuse(event.kind)
        raise AuditRefusedError(
            f"{event.kind}: the policy wants a record before this may happen, and none was made in time"
        )
    if refused:
        raise refused[0]


def tell_pending(pipeline: Pipeline) -> None:
    """The trail has begun: tells what was kept for it, and from now on in a thread of its own."""
    while _pending:
        _emit(pipeline, _pending.pop(0), [])
    aside.start()


def _emit(pipeline: Pipeline, event: AuditEvent, refused: list[AuditRefusedError]) -> None:
    if event.target is None:
        event.target = Target("service", pipeline.settings.service_name)
    try:
        pipeline.emit(event)
    except AuditRefusedError as error:  # the pipeline has counted it
        refused.append(error)


def _make_hook(
    handlers: Mapping[str, Any],
    harmless: Mapping[str, Container[tuple[Any, ...]]],
    run: Callable[[str, tuple[Any, ...]], None],
) -> Callable[[str, tuple[Any, ...]], None]:
    # Variables of a closure are the quickest to reach, and are still there when the interpreter clears its modules.
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in handlers:
            try:
                if args in harmless[event]:
                    return
            except (KeyError, TypeError):  # taken off just now; arguments that cannot be looked up
                pass
            run(event, args)

    return hook


def _run(event: str, args: tuple[Any, ...]) -> None:
    if _busy.now or sys.is_finalizing():
        return
    _busy.now = True
    try:
        handler = _handlers.get(event)
        if handler is not None:
            handler(event, args)
    except AuditRefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - what a hook raises would reach the program
        _contain(error)
    finally:
        _busy.now = False


def _contain(error: Exception) -> None:
    with contextlib.suppress(Exception):
        pipeline = current.running()
        if pipeline is not None and (aside.runs or caller() is not None):
            aside.do(lambda: pipeline.fault(COMPONENT, error))


def _after_fork() -> None:
    """What was kept is the parent's to tell."""
    _pending.clear()


os.register_at_fork(after_in_child=_after_fork)
