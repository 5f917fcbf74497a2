"""What capture hands to the rest of the pipeline: one thing that happened."""

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

    Its 74 random bits come from the operating system: an id that others could guess could be taken by them first.
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
    # One call for many: asking the kernel costs more than everything else here.
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
# A forked child must not hand out the ids that its parent hands out.
os.register_at_fork(after_in_child=_tails.clear)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted.

    Attributes:
        id: as the service knows it; the policy's redaction decides what of it reaches a record.
        type: ``user``, ``service`` or ``system`` (OTel audit draft, ``audit.actor.type``).
        name: a name that people recognise.
        roles: what the actor may do.
        method: how the actor became known: ``authenticated``, ``header``, ``credential``, ``context``, ``process``
            or ``anonymous``.
    """

    id: str
    type: str = USER
    name: str | None = None
    roles: tuple[str, ...] = ()
    method: str = "context"


@dataclass(frozen=True, slots=True)
class Target:
    """What was acted on, e.g. ``Target("model", "fraud@3")``.

    Attributes:
        type: the sort of thing, e.g. ``model``, ``dataset`` or ``report``.
        id: which one of its sort.
    """

    type: str
    id: str


@dataclass(slots=True)
class AuditEvent:
    """One audit event, before policy.

    Attributes:
        kind: a kind of the catalog, e.g. ``audit.ml.prediction``.
        outcome: ``success``, ``failure`` or ``unknown``.
        actor: who acted; None lets the pipeline fill in the process's own identity.
        target: what was acted on.
        fields: flat, dotted field names of the catalog at metadata level. Values: str, int, float, bool,
            or a list or dict of those. Absent is absent: no None.
        inputs: the same, recorded only at policy level ``inputs`` and above.
        outputs: the same, recorded only at policy level ``full``.
        action: uppercase verb; None takes the catalog's.
        timestamp: nanoseconds since the epoch, UTC.
        record_id: UUIDv7; also the document id in Elasticsearch.
        trace_id, span_id: of the span that was current, 0 when there was none.
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
