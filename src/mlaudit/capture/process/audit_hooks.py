"""The runtime's own audit events (PEP 578): one hook, which looks up the handlers of an event.

The interpreter calls the hook for thousands of events that do not matter here, so it does one dictionary lookup for
each and nothing else. A hook cannot be removed: ``uninstall`` empties the dictionary, after which the hook does
nothing. While a handler runs, it ignores events of the same thread, which it causes itself, and events while
the pipeline is at work (see ``caller``). A background thread makes the records (see ``background``).

Only a dangerous unpickling starts a trail. Other events before the start are kept, up to
a limit, and recorded with their own time when the trail starts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.origin import originate
from mlaudit.capture.process.background import background
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
TIMEOUT: Final = 0.5

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
    """Sets the handlers of events, which get the event's name and arguments; the first call adds the hook.

    Args:
        handlers: by the name of the event.
        harmless: arguments that are ignored; may grow and shrink.
    """
    global _added
    _harmless.update(dict.fromkeys(handlers, harmless))
    _handlers.update(handlers)
    if not _added:
        _added = True
        sys.addaudithook(_make_hook(_handlers, _harmless, _run))


def leave(*events: str) -> None:
    """Removes the handlers of these events."""
    for event in events:
        _handlers.pop(event, None)


def uninstall() -> None:
    """Removes all handlers and kept events; for tests."""
    background.finish()
    _handlers.clear()
    _pending.clear()


def record_event(event: AuditEvent, *, begins: bool = False, before: bool = False) -> None:
    """Records an event of the runtime; before the trail has started, the event is kept for its start.

    Args:
        event: the event; without a target, its target is the service.
        begins: the event starts the trail.
        before: the action may end the process, or must not happen unrecorded: waits for the record, for half a second
            at most.

    Raises:
        AuditRefusedError: with ``before``, when the event could not be recorded and the policy says refuse.
    """
    pipeline = current.pipeline() if begins else current.running()
    originate(event)
    if pipeline is None:
        if len(_pending) < MAX_PENDING:
            _pending.append(event)
        return
    refused: list[AuditRefusedError] = []
    done = background.submit(
        lambda: _emit(pipeline, event, refused),
        TIMEOUT if before else 0.0,
        on_full=lambda: pipeline.fault(COMPONENT, OverflowError(), kind=event.kind, outcome=event.outcome),
    )
    if not before:
        return
    if not done and pipeline.policy.can_refuse and pipeline.decide(event.kind).on_failure == "refuse":
        pipeline.refuse(event.kind)
        raise AuditRefusedError(
            f"{event.kind}: the policy requires a record before this action, and none was stored in time"
        )
    if refused:
        raise refused[0]


def record_pending(pipeline: Pipeline) -> None:
    """Records the kept events after the trail has started; later events are recorded in a background thread."""
    while _pending:
        _emit(pipeline, _pending.pop(0), [])
    background.start()


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
    # Variables of a closure are the fastest to read, and still exist when the interpreter clears its modules.
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in handlers:
            try:
                if args in harmless[event]:
                    return
            except (KeyError, TypeError):  # removed meanwhile, or arguments that cannot be hashed
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
        if pipeline is not None and (background.runs or caller() is not None):
            background.submit(lambda: pipeline.fault(COMPONENT, error))


def _after_fork() -> None:
    """Drops the kept events: the parent records them."""
    _pending.clear()


os.register_at_fork(after_in_child=_after_fork)
