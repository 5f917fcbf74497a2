"""The state that one start of a service stores for the next: its stream, and its policy."""

from __future__ import annotations

import json
import logging
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import POLICY_CHANGED, POLICY_LOADED
from mlaudit.deliver.spool.files import make_folder, replace_file
from mlaudit.event import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlaudit.policy.evaluate import CompiledPolicy

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_logger = logging.getLogger("mlaudit")


@dataclass(frozen=True, slots=True)
class LastStream:
    """The last known position of the stream of the service's last start."""

    id: str
    sequence: int
    hash: str
    ended: bool


class Memory:
    """One JSON file per service under the state folder. Its absence or damage costs links, never records."""

    def __init__(self, state_dir: Path, service: str) -> None:
        self._path = state_dir / "services" / f"{_UNSAFE.sub('_', service) or '_'}.json"
        self._lock = threading.Lock()
        self._content = self._read()
        self.last_stream = _last_stream(self._content.get("stream"))

    def note_stream(self, stream_id: str, sequence: int, head: str, *, ended: bool) -> None:
        """Stores the position of a stream of this service."""
        self.last_stream = LastStream(stream_id, sequence, head, ended)
        self.put("stream", {"id": stream_id, "sequence": sequence, "hash": head, "ended": ended})

    def get(self, section: str) -> Any:
        """The value that an earlier start, or this one, stored under ``section``; None without one."""
        return self._content.get(section)

    def put(self, section: str, value: Any) -> None:
        """Stores ``value`` (JSON) under ``section`` for the next start; a failure is logged, not raised."""
        with self._lock:
            self._content[section] = value
            try:
                make_folder(self._path.parent)
                replace_file(self._path, json.dumps(self._content, sort_keys=True).encode())
            except Exception as error:  # noqa: BLE001 - a lost memory is no reason to lose a record
                _logger.warning("the next start will not know about this one: %s", error)

    def policy_events(self, policy: CompiledPolicy, snapshot: Any, path: Path | None) -> Iterator[AuditEvent]:
        """The event that names the policy in force from now on: loaded, or changed.

        ``snapshot`` is ``policy.compare.snapshot`` of the policy; it is stored for the next start.
        """
        before = self.get("policy")
        fields: dict[str, Any] = {
            "audit.policy.path": str(path) if path else "built in",
            "audit.policy.revision": str(policy.revision),
        }
        kind = POLICY_LOADED
        if isinstance(before, dict) and before.get("digest") != policy.digest:
            from mlaudit.policy.compare import changes, lowered

            kind = POLICY_CHANGED
            fields["audit.policy.previous_digest"] = str(before.get("digest"))
            fields["audit.policy.changes"] = changes(before.get("snapshot"), snapshot)[:100]
            fields["audit.policy.lowered"] = bool(lowered(before.get("snapshot"), snapshot))
        self.put("policy", {"digest": policy.digest, "snapshot": snapshot})
        yield AuditEvent(kind, fields=fields)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            _logger.warning("%s: expected the memory of the last start, found %s", self._path, error)
            return {}
        return content if isinstance(content, dict) else {}


def _last_stream(value: Any) -> LastStream | None:
    try:
        return LastStream(str(value["id"]), int(value["sequence"]), str(value["hash"]), bool(value["ended"]))
    except (KeyError, TypeError, ValueError):
        return None
