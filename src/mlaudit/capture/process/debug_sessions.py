"""Sessions of debuggers and interactive shells in the process: recorded when they start and end."""

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
        # No lock: a session may start in code that holds one. Each operation on the dict is atomic.
        self._open: dict[Key, Session] = {}
        self._over = False

    def begin(
        self, tool: str, event: str, fields: dict[str, Any], *, thread: bool = False, detail: str = ""
    ) -> bool:
        """Records that a session started; False when the tool already has one.

        Args:
            tool: e.g. ``pdb``.
            event: the audit event of the runtime, or the function that began it.
            fields: ``code.*`` of the place where it controls the program.
            thread: it controls the current thread only; else the process.
            detail: more detail of the event.
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
        """Records that a session ended, if one was open."""
        session = self._open.pop(_key(tool, thread), None)
        if session is not None:
            self._record(DEBUG_ENDED, tool, session, {"event.duration": time.monotonic_ns() - session.begun})

    def end_all(self) -> None:
        """Ends every session at the end of the process; no further session starts."""
        self._over = True
        while self._open:
            (tool, _), session = self._open.popitem()
            more = {
                "event.duration": time.monotonic_ns() - session.begun,
                "event.reason": "the process ended",
            }
            self._record(DEBUG_ENDED, tool, session, more)

    def forget(self) -> None:
        """Drops the sessions, which belong to the parent."""
        self._open.clear()
        self._over = False

    def reopen(self) -> None:
        """Allows sessions again, when a trail starts."""
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
