"""Debuggers and interactive shells that have hold of the process: told when they begin and when they end."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final, NamedTuple

from mlaudit.capture.process import audit_hooks
from mlaudit.catalog.names import DEBUG_ENDED, DEBUG_STARTED
from mlaudit.event import AuditEvent, new_record_id

# A debugger of one thread, or of the whole process.
Key = tuple[str, int]


class Session(NamedTuple):
    """One session; ``begun`` is of the monotonic clock, in nanoseconds."""

    id: str
    begun: int
    fields: dict[str, Any]


class DebugSessions:
    """The sessions that are open in this process. Never refuses: the policy cannot keep a debugger out."""

    def __init__(self) -> None:
        # No lock: a session may begin in whatever holds one. What is done with the dict is done at once.
        self._open: dict[Key, Session] = {}
        self._over = False

    def begin(
        self, tool: str, event: str, fields: dict[str, Any], *, thread: bool = False, detail: str = ""
    ) -> bool:
        """Tells that a session began; False when there is one of the tool already.

        Args:
            tool: e.g. ``pdb``.
            event: the audit event of the runtime, or the function that began it.
            fields: ``code.*`` of the place where it has hold of the program.
            thread: it holds the current thread only; else the process.
            detail: more to say of the event.
        """
        if self._over:
            return False
        session = Session(new_record_id(), time.monotonic_ns(), fields)
        if self._open.setdefault(_key(tool, thread), session) is not session:
            return False
        more = {"audit.runtime.event": event} | ({"audit.runtime.detail": detail} if detail else {})
        self._record(DEBUG_STARTED, tool, session, more)
        return True

    def end(self, tool: str, *, thread: bool = False) -> None:
        """Tells that a session ended, where one was open."""
        session = self._open.pop(_key(tool, thread), None)
        if session is not None:
            self._record(DEBUG_ENDED, tool, session, {"event.duration": time.monotonic_ns() - session.begun})

    def end_all(self) -> None:
        """The process ends, and with it every session; what its end stirs up begins none."""
        self._over = True
        while self._open:
            (tool, _), session = self._open.popitem()
            more = {
                "event.duration": time.monotonic_ns() - session.begun,
                "event.reason": "the process ended",
            }
            self._record(DEBUG_ENDED, tool, session, more)

    def forget(self) -> None:
        """The sessions of a parent are not those of its child."""
        self._open.clear()
        self._over = False

    def reopen(self) -> None:
        """A trail begins: sessions may begin again."""
        self._over = False

    def _record(self, kind: str, tool: str, session: Session, more: dict[str, Any]) -> None:
        fields = {
            "audit.debug.tool": tool,
            "audit.debug.session_id": session.id,
            "process.parent.pid": os.getppid(),
            **session.fields,
            **more,
        }
        audit_hooks.record_event(AuditEvent(kind, fields=fields))


def _key(tool: str, thread: bool) -> Key:
    return tool, threading.get_ident() if thread else 0


sessions: Final = DebugSessions()
os.register_at_fork(after_in_child=sessions.forget)
