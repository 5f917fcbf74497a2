"""Records changes of watched configuration files, also those made while the service did not run.

The files are those of the policy's ``watch`` and of ``MLAUDIT_WATCH``, paths or globs. Every ``MLAUDIT_WATCH_SECONDS``
their size, time and inode are compared, and on a difference their bytes. Several processes of one service share what
they have seen, so that a change is recorded once. Only keyed digests of values are kept on disk: they show which keys
changed while the service did not run, but not their values.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.process.config_keys import MAX_BYTES, changed, flat_keys, value_text
from mlaudit.catalog.names import ML_CONFIG_CHANGED
from mlaudit.event import FAILURE, SUCCESS, SYSTEM, Actor, AuditEvent, Target
from mlaudit.pipeline.shared_file import Remembered
from mlaudit.safety.regular import open_regular

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.config"
MAX_FILES: Final = 1000
MAX_SHOWN: Final = 100
# Editors and shells empty a file before they fill it: a file that was just written is checked again first.
SETTLE_SECONDS: Final = 0.1
MAX_DEFERRED: Final = 10
_GONE: Final = ""
# The writer of the file is unknown here.
SOMEBODY: Final = Actor("unknown", SYSTEM, method="anonymous")


@dataclass(slots=True)
class _Seen:
    """The last known state of one file; ``digest`` is "" when it does not exist."""

    mark: tuple[int, ...] = ()
    digest: str = _GONE
    keys: dict[str, Any] | None = None
    unreadable: str = ""


class ConfigWatcher:
    """Checks the watched files, in its own thread once started."""

    def __init__(self, pipeline: Pipeline, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        settings = pipeline.settings
        self._pipeline = pipeline
        self._patterns = tuple(dict.fromkeys((*pipeline.policy.watch, *settings.watch)))
        self._memory = Remembered.of_service(settings.state_dir, settings.service_name, "config")
        self._seen: dict[str, _Seen] = {}
        self._settle_ns = int(settle_seconds * 1e9)
        self._deferred: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def watches(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._patterns)

    def start(self) -> None:
        """Compares the files with their last known state, then watches them in a thread."""
        if not self.watches:
            return
        self.look(starting=True)
        self._thread = threading.Thread(target=self._watch, name="mlaudit-config", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Checks the files a last time and ends the thread."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)
            self._settle_ns = 0
            self.look()

    def look(self, *, starting: bool = False) -> None:
        """Checks every file once and records changes; a fault is contained."""
        try:
            for path in self._paths():
                self._look_at(path, starting)
        except Exception as error:  # noqa: BLE001 - watching continues
            self._pipeline.fault(COMPONENT, error)

    def _watch(self) -> None:
        while not self._stop.wait(self._pipeline.settings.watch_seconds):
            self.look()

    def _paths(self) -> list[str]:
        found = dict.fromkeys(self._seen)
        for pattern in self._patterns:
            pattern = os.path.abspath(os.path.expanduser(pattern))  # noqa: PTH100, PTH111
            if glob.has_magic(pattern):
                matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
                found.update((path, None) for path in matches if os.path.isfile(path))  # noqa: PTH113
            else:
                found[pattern] = None
        return list(found)[:MAX_FILES]

    def _look_at(self, path: str, starting: bool) -> None:
        before = self._seen.get(path)
        try:
            mark = _mark(path)
            if before is not None and mark == before.mark and not before.unreadable:
                return
            digest, content = _GONE, b""
            if mark:
                if not starting and self._is_unsettled(path, mark):
                    return
                digest, content = _read(path)
                if _mark(path) != mark:
                    return  # it is being written: the next check sees the whole file
        except OSError as error:
            self._note_unreadable(path, error)
            return
        now = _Seen(mark)
        if mark:
            now.digest = digest
            now.keys = flat_keys(path, content)
        if before is None or before.digest != now.digest or before.unreadable:
            self._compare(path, before, now, starting)
        # Only now: a change that could not be recorded is recorded at the next check.
        self._seen[path] = now

    def _is_unsettled(self, path: str, mark: tuple[int, ...]) -> bool:
        """Whether the file was just written; only for a limited time, as some files are written all the time."""
        young = 0 <= time.time_ns() - mark[-1] < self._settle_ns
        if young and self._deferred.get(path, 0) < MAX_DEFERRED:
            self._deferred[path] = self._deferred.get(path, 0) + 1
            return True
        self._deferred.pop(path, None)
        return False

    def _compare(self, path: str, before: _Seen | None, now: _Seen, starting: bool) -> None:
        """Compares with the recorded state of the file, and records the difference, once for all processes."""
        with self._memory.exclusively() as content:
            files = content.setdefault("files", {})
            stored = files.get(path)
            if stored is None and (starting or not now.digest):
                # The first check of the service: there is nothing to compare with.
                pass
            elif stored is None or stored["digest"] != now.digest:
                earlier = stored or {"digest": _GONE, "keys": None}
                self._record_change(path, earlier, before, now, starting)
            files[path] = {"digest": now.digest, "keys": self._keyed(now.keys)}

    def _record_change(
        self, path: str, stored: dict[str, Any], before: _Seen | None, now: _Seen, starting: bool
    ) -> None:
        settings = self._pipeline.settings
        moment = time.time_ns()
        fields: dict[str, Any] = {
            "ml.config.source": "file",
            "ml.config.path": path,
            "ml.config.before.digest": stored["digest"],
            "ml.config.after.digest": now.digest,
            "ml.change.ticket": settings.change_ticket,
            "ml.change.approver": settings.change_approver,
            "ml.change.in_window": self._pipeline.policy.change.in_window(moment),
            "event.reason": _reason(stored["digest"], now.digest, starting),
        }
        known = before is not None and before.digest == stored["digest"]
        if known and before is not None:
            keys = changed(before.keys, now.keys)
            old = before.keys
        else:
            keys = changed(stored["keys"], self._keyed(now.keys))
            old = None
        if keys:
            shown = keys[:MAX_SHOWN]
            fields["ml.config.keys"] = shown
            fields["ml.config.changes"] = {
                key: self._shown(key, value_text(old, key, "(absent)" if known else "(not seen)"), now.keys)
                for key in shown
            }
        present = {name: value for name, value in fields.items() if value != ""}
        self._pipeline.emit(
            AuditEvent(
                ML_CONFIG_CHANGED,
                SUCCESS,
                actor=SOMEBODY,
                target=Target("configuration", path),
                fields=present,
                timestamp=moment,
            )
        )

    def _shown(self, key: str, old: str, now: dict[str, Any] | None) -> str:
        return f"{old} -> {value_text(now, key)}"

    def _note_unreadable(self, path: str, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        seen = self._seen.setdefault(path, _Seen())
        if seen.unreadable == reason:
            return
        seen.unreadable = reason
        self._pipeline.emit(
            AuditEvent(
                ML_CONFIG_CHANGED,
                FAILURE,
                actor=self._pipeline.actor,
                target=Target("configuration", path),
                fields={
                    "ml.config.source": "file",
                    "ml.config.path": path,
                    "event.reason": f"the file cannot be read: {reason}",
                    "error.type": type(error).__name__,
                },
            )
        )

    def _keyed(self, keys: dict[str, Any] | None) -> dict[str, str] | None:
        if keys is None:
            return None
        pseudonym = self._pipeline.policy.pseudonyms.of
        return {key: pseudonym(json.dumps(value, default=str, sort_keys=True)) for key, value in keys.items()}


def _read(path: str) -> tuple[str, bytes]:
    """Digest of a whole file of any size, and its first bytes: the limit for parsing keys and one byte more."""
    state = hashlib.sha256()
    head = b""
    with open_regular(path) as file:
        while chunk := file.read(MAX_BYTES):
            state.update(chunk)
            head += chunk[: max(0, MAX_BYTES + 1 - len(head))]
    return state.hexdigest(), head


def _mark(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _reason(before: str, after: str, starting: bool) -> str:
    what = "the file changed"
    if not before:
        what = "the file appeared"
    elif not after:
        what = "the file disappeared"
    return f"{what} while the service was not running" if starting else what
