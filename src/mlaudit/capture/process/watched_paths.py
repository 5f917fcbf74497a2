"""Watched paths that the process itself opens: ``audit.runtime.file.opened``.

The paths are those of the policy's ``watch`` and of ``MLAUDIT_WATCH``, as for changes of configuration files. They are
compared with the path as the program writes it, made absolute: a link to a watched file is another path. The runtime
reports an attempt; the permissions show whether it can succeed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.process import audit_hooks
from mlaudit.capture.process.caller import caller
from mlaudit.catalog.names import RUNTIME_FILE_OPENED
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target
from mlaudit.policy.globs import path_matcher
from mlaudit.safety.rate_limit import RateLimit

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline
    from mlaudit.policy.globs import Matcher

EVENT: Final = "open"


class WatchedPaths:
    """Listens to the paths that the current pipeline watches."""

    def __init__(self) -> None:
        self._matches: Matcher | None = None
        self._refuses = False
        self._repeats: RateLimit[tuple[str, str]] = RateLimit()

    def watch(self, pipeline: Pipeline) -> None:
        """Starts to listen if there is anything to watch; otherwise opening files has no cost."""
        patterns = tuple(dict.fromkeys((*pipeline.policy.watch, *pipeline.settings.watch)))
        if not patterns:
            self.stop()
            return
        self._refuses = (
            pipeline.policy.can_refuse and pipeline.decide(RUNTIME_FILE_OPENED).on_failure == "refuse"
        )
        self._matches = path_matcher(tuple(_absolute(pattern) for pattern in patterns))
        audit_hooks.handle({EVENT: self._on_open})

    def stop(self) -> None:
        """Records how often recorded accesses were repeated, and stops listening."""
        audit_hooks.leave(EVENT)
        self._matches = None
        for (path, mode), count in self._repeats.rest().items():
            self._record(path, mode, {"event.reason": f"and {count} times more since the last record of it"})

    def _on_open(self, _event: str, args: tuple[Any, ...]) -> None:
        path, mode, flags = args
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        matches = self._matches
        if not isinstance(path, str) or matches is None:  # a descriptor is already open
            return
        path = os.path.abspath(path)  # noqa: PTH100 - as the program writes it
        if not matches(path):
            return
        found = caller()
        if found is None:
            return
        how = how_opened(mode, flags)
        if (before := self._repeats.due((path, how))) is None:
            return
        fields = dict(found.fields)
        if before:
            fields["event.reason"] = f"and {before} times more since the last record of it"
        self._record(path, how, fields)

    def _record(self, path: str, how: str, fields: dict[str, Any]) -> None:
        fields |= {"audit.runtime.event": EVENT, "audit.runtime.detail": how, "file.path": path}
        outcome = SUCCESS if _allowed(path, how) else FAILURE
        event = AuditEvent(RUNTIME_FILE_OPENED, outcome, target=Target("file", path), fields=fields)
        audit_hooks.record_event(event, before=self._refuses)


def how_opened(mode: Any, flags: Any) -> str:
    """``read``, ``write``, ``append`` or ``read and write``, from what ``open`` or ``os.open`` was given."""
    if isinstance(mode, str):
        if "+" in mode:
            return "read and write"
        return "append" if "a" in mode else "write" if "w" in mode or "x" in mode else "read"
    flags = flags if isinstance(flags, int) else 0
    access = flags & os.O_ACCMODE
    if access == os.O_RDWR:
        return "read and write"
    if access == os.O_WRONLY:
        return "append" if flags & os.O_APPEND else "write"
    return "read"


def _allowed(path: str, how: str) -> bool:
    if how != "read" and not os.path.lexists(path):
        return os.access(os.path.dirname(path), os.W_OK)  # noqa: PTH120 - a text like the rest
    needed = (os.R_OK if "read" in how else 0) | (os.W_OK if how != "read" else 0)
    return os.access(path, needed)


def _absolute(pattern: str) -> str:
    return os.path.abspath(os.path.expanduser(pattern))  # noqa: PTH100, PTH111 - a pattern


watched_paths: Final = WatchedPaths()
