"""The event that capture passes to the rest of the pipeline."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any, Final

SUCCESS: Final = "success"
FAILURE: Final = "failure"
UNKNOWN: Final = "unknown"

USER: Final = "user"
SERVICE: Final = "service"
SYSTEM: Final = "system"


def new_record_id() -> str:
    """A UUIDv7 (RFC 9562): time-ordered, so that ids of one stream index and compress well.

    Its 74 random bits come from the operating system, so that no other party can guess an id and use it first.
    """
    try:
        tail = _tails.pop()  # atomic: no two threads get the same
    except IndexError:
        fresh = _random_tails()
        tail = fresh.pop()
        _tails.extend(fresh)
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-{tail}"


def _random_tails() -> list[str]:
    """The random parts of many ids, with version 7 and variant 0b10 in their places."""
    # One call for many: the system call costs more than everything else here.
    digits = os.urandom(_TAIL_BYTES * _TAILS_AT_ONCE).hex()
    return [
        f"7{part[:3]}-{'89ab'[int(part[3], 16) & 3]}{part[4:7]}-{part[7:19]}"
        for part in (
            digits[start : start + 2 * _TAIL_BYTES] for start in range(0, len(digits), 2 * _TAIL_BYTES)
        )
    ]


_TAIL_BYTES: Final = 10
_TAILS_AT_ONCE: Final = 256
_tails: list[str] = []
# A forked child must not use the same ids as its parent.
os.register_at_fork(after_in_child=_tails.clear)


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of an event.

    Attributes:
        id: the id in the service; the policy's redaction decides how it is recorded.
        type: ``user``, ``service`` or ``system`` (OTel audit draft, ``audit.actor.type``).
        name: a human-readable name.
        roles: the actor's roles.
        method: how the actor was identified: ``authenticated``, ``header``, ``credential``, ``context``, ``process``
            or ``anonymous``.
    """

    id: str
    type: str = USER
    name: str | None = None
    roles: tuple[str, ...] = ()
    method: str = "context"


@dataclass(frozen=True, slots=True)
class Target:
    """The object of an action, e.g. ``Target("model", "fraud@3")``.

    Attributes:
        type: the type of the object, e.g. ``model``, ``dataset`` or ``report``.
        id: its id within the type.
    """

    type: str
    id: str


@dataclass(slots=True)
class AuditEvent:
    """One audit event, before policy.

    Attributes:
        kind: a kind of the catalog, e.g. ``audit.ml.prediction``.
        outcome: ``success``, ``failure`` or ``unknown``.
        actor: who acted; None for the process's own identity.
        target: the object of the action.
        fields: flat, dotted field names of the catalog at metadata level. Values: str, int, float, bool,
            or a list or dict of those. Absent values are left out: no None.
        inputs: the same, recorded only at policy level ``inputs`` and above.
        outputs: the same, recorded only at policy level ``full``.
        action: uppercase verb; None for the catalog's.
        timestamp: nanoseconds since the epoch, UTC.
        record_id: UUIDv7; also the document id in Elasticsearch.
        trace_id, span_id: of the current span, 0 without one.
    """

    kind: str
    outcome: str = SUCCESS
    actor: Actor | None = None
    target: Target | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    action: str | None = None
    timestamp: int = field(default_factory=time.time_ns)
    record_id: str = field(default_factory=new_record_id)
    trace_id: int = 0
    span_id: int = 0
