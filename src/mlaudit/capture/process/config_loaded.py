"""Records changes of configurations that a program loads, since the last start or the last load.

A configuration is known by a name and is a flat mapping of keys to values. Several processes of one service share
what they have seen, so that a change is recorded once. Only keyed digests of values are stored on disk; a change shows
only values that this process has loaded itself.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.origin import originate
from mlaudit.capture.process.config_files import MAX_SHOWN, SOMEBODY
from mlaudit.capture.process.config_keys import MAX_KEYS, changed, value_text
from mlaudit.catalog.names import ML_CONFIG_CHANGED
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target
from mlaudit.pipeline.shared_file import Remembered
from mlaudit.policy.secrets import REMOVED, is_secret_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.pipeline.pipeline import Pipeline

MAX_REMEMBERED: Final = 500
MAX_DEPTH: Final = 20


@dataclass(slots=True)
class Loaded:
    """A configuration as it was loaded.

    Attributes:
        source: the value of ``ml.config.source``.
        name: of the configuration, the same at the next start.
        values: dotted key to value; anything that JSON or ``str`` can represent.
        secrets: keys whose values are never shown, in addition to those with the name of a secret.
        unsaid: first parts of keys that this load does not contain: their values are unchanged.
    """

    source: str
    name: str
    values: dict[str, Any]
    secrets: set[str] = field(default_factory=set)
    unsaid: frozenset[str] = frozenset()

    def text(self, key: str) -> str:
        """The value of a key as it may be shown; ``(absent)`` when it has none."""
        if key in self.values and self.hides(key):
            return REMOVED
        return value_text(self.values, key)

    def hides(self, key: str) -> bool:
        """Whether the value of a key is a secret."""
        return key in self.secrets or is_secret_key(key)

    def leaves_out(self, key: str) -> bool:
        """Whether this load does not contain the key."""
        return key.partition(".")[0] in self.unsaid

    def complete(self, before: Loaded) -> None:
        """Adds the unchanged values of the previous load."""
        for key, value in before.values.items():
            if self.leaves_out(key):
                self.values[key] = value
                if key in before.secrets:
                    self.secrets.add(key)

    def keyed(self, pipeline: Pipeline) -> dict[str, str]:
        """Key to keyed digest of its value."""
        of = pipeline.policy.pseudonyms.of
        # Digested before it is keyed, because the policy caches the texts that it has keyed.
        return {
            key: of(hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest())
            for key, value in self.values.items()
        }


# The loads of this process, by service and name: a change in this process can show the previous value.
_seen: Final[dict[tuple[str, str], Loaded]] = {}


def compare(pipeline: Pipeline, now: Loaded) -> bool:
    """Records ``audit.ml.config.changed`` when a configuration has changed; returns whether it did.

    Raises:
        OSError, SpoolUnavailableError, ValueError: the previous state cannot be read or stored.
        AuditRefusedError: the change could not be recorded, and the policy says refuse.
    """
    settings = pipeline.settings
    place = (str(settings.state_dir), f"{settings.service_name}\0{now.name}")
    before = _seen.get(place)
    if before is not None:
        now.complete(before)
        if before.values == now.values:
            return False  # some programs create new settings for each request
    keyed = now.keyed(pipeline)
    event = None
    memory = Remembered.of_service(settings.state_dir, settings.service_name, "loaded")
    with memory.exclusively() as content:
        stored = content.get(now.name)
        if isinstance(stored, dict):
            keyed |= {key: value for key, value in stored.items() if now.leaves_out(key)}
        if isinstance(stored, dict) and stored != keyed:
            event = _changed(pipeline, stored, keyed, before, now)
        if stored is not None or len(content) < MAX_REMEMBERED:
            content[now.name] = keyed
    if len(_seen) < MAX_REMEMBERED or place in _seen:
        _seen[place] = now
    if event is not None:
        pipeline.emit(event)
    return event is not None


def record_set(pipeline: Pipeline, before: Loaded, now: Loaded, error: BaseException | None) -> None:
    """Records that the running program set values of a configuration, or tried to.

    Raises:
        AuditRefusedError: it could not be recorded, and the policy says refuse.
    """
    old, new = before.keyed(pipeline), now.keyed(pipeline)
    keys = sorted(before.values.keys() | now.values.keys()) if error is not None else changed(old, new)
    if not keys:
        return
    fields = {
        **_fields(pipeline, now, keys, old, new),
        "ml.config.changes": {key: f"{before.text(key)} -> {now.text(key)}" for key in keys[:MAX_SHOWN]},
        "event.reason": "set by the running program",
    }
    if error is not None:
        fields |= {"error.type": type(error).__name__, "event.reason": "the running program may not set it"}
    outcome = SUCCESS if error is None else FAILURE
    pipeline.emit(
        originate(
            AuditEvent(ML_CONFIG_CHANGED, outcome, target=Target("configuration", now.name), fields=fields)
        )
    )


def _changed(
    pipeline: Pipeline, stored: dict[str, str], keyed: dict[str, str], before: Loaded | None, now: Loaded
) -> AuditEvent:
    keys = changed(stored, keyed)
    known = before is not None and before.keyed(pipeline) == stored
    reason = "it is not what this process loaded before" if known else "it is not what was loaded last"

    def was(key: str) -> str:
        if known and before is not None:
            return before.text(key)
        return "(not seen)" if key in stored else "(absent)"

    fields = {
        **_fields(pipeline, now, keys, stored, keyed),
        "ml.config.changes": {key: f"{was(key)} -> {now.text(key)}" for key in keys[:MAX_SHOWN]},
        "event.reason": reason,
    }
    return AuditEvent(ML_CONFIG_CHANGED, SUCCESS, SOMEBODY, Target("configuration", now.name), fields)


def _fields(
    pipeline: Pipeline, now: Loaded, keys: list[str], old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, Any]:
    settings = pipeline.settings
    fields: dict[str, Any] = {
        "ml.config.source": now.source,
        "ml.config.path": now.name,
        "ml.config.keys": keys[:MAX_SHOWN],
        "ml.config.before.digest": _digest(old),
        "ml.config.after.digest": _digest(new),
        "ml.change.ticket": settings.change_ticket,
        "ml.change.approver": settings.change_approver,
        "ml.change.in_window": pipeline.policy.change.in_window(time.time_ns()),
    }
    return {name: value for name, value in fields.items() if value != ""}


def _digest(keyed: Mapping[str, str]) -> str:
    """SHA-256 (hex) over the keyed digests: secrets must not be guessable from a plain digest."""
    return hashlib.sha256(json.dumps(dict(keyed), sort_keys=True).encode()).hexdigest()


def flatten(value: Any, prefix: str, found: dict[str, Any], depth: int = 0) -> None:
    """Adds the leaves of nested dicts to ``found`` under dotted keys, at most ``MAX_KEYS`` of them."""
    if isinstance(value, dict) and value and depth < MAX_DEPTH:
        for key, item in value.items():
            flatten(item, f"{prefix}.{key}" if prefix else str(key), found, depth + 1)
    elif len(found) < MAX_KEYS:
        found[prefix or "(root)"] = value
