"""The state of a spool's streams seen from outside: their files, and the status files of their processes.

Progress is read from the segments and the acknowledgement, not from what the process claims. The status file adds what
only the process knows; it may be absent, torn or forged, and is used for display only.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.deliver.spool import backlog, files, layout
from mlaudit.deliver.spool.lock import is_locked
from mlaudit.errors import SpoolError

if TYPE_CHECKING:
    from pathlib import Path

ALIVE: Final = "alive"
DRAINING: Final = "draining"
DEAD: Final = "dead"
DELIVERED: Final = "delivered"
_STATUS_BYTES: Final = 64 << 10
_TEXT: Final = 300


@dataclass(slots=True)
class StreamStatus:
    """One stream of a spool. Ages are seconds; an absent time is "".

    Attributes:
        state: ``alive`` (its process writes it), ``draining`` (another process sends what a dead one left),
            ``dead`` (no process holds it), or ``delivered`` (only quarantined records are left).
        described: whether there was a status file that could be read.
        sealed, sent: sequences: how many records the stream has, and up to which the receiver acknowledged.
        sending: whether the process's sender runs.
        lost: records of that process that could not be stored, by reason.
        attention: what needs attention, as sentences; empty when all is well.
    """

    stream: str
    state: str
    described: bool = False
    service: str = ""
    environment: str = ""
    host: str = ""
    pid: int = 0
    adopted_by: str = ""
    started: str = ""
    written_age: float = 0.0
    sealed: int = 0
    sent: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    oldest_age: float = 0.0
    last_acknowledged: str = ""
    failing_since: str = ""
    last_failure: str = ""
    sending: bool = True
    lost: dict[str, int] = field(default_factory=dict)
    lost_total: int = 0
    refused: int = 0
    signed_sequence: int = 0
    signed_time: str = ""
    key_id: str = ""
    quarantined: int = 0
    retained_bytes: int = 0
    attention: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The status as plain values."""
        return asdict(self)


def look(folder: Path, spool: Path, now: float | None = None) -> StreamStatus | None:
    """The status of one stream folder; None when it was sent and removed during the read.

    Raises:
        SpoolError: it cannot be read.
    """
    moment = time.time() if now is None else now
    described, written = _told(layout.status_file(folder))
    ack = files.read_ack(folder)
    # Before the lock is tried: a process that ends in between must not make the stream look abandoned.
    sealed = backlog.last_sequence(folder)
    locked = _is_locked(folder)
    quarantined = _quarantined(folder)
    if locked is None and not quarantined:
        return None
    adopted_by = _text(described, "adopted_by")
    status = StreamStatus(
        stream=folder.name,
        state=_state(locked, adopted_by),
        described=bool(described),
        service=_text(described, "service"),
        environment=_text(described, "environment"),
        host=_text(described, "host"),
        pid=_number(described, "pid"),
        adopted_by=adopted_by,
        started=_text(described, "started"),
        written_age=max(0.0, moment - written) if written else 0.0,
        sealed=sealed,
        sent=min(ack.sequence, sealed) if ack else 0,
        last_acknowledged=_text(described, "last_acknowledged"),
        failing_since=_text(described, "failing_since"),
        last_failure=_text(described, "last_failure"),
        sending=described.get("sending") is not False,
        lost=_counts(described.get("lost")),
        lost_total=_number(described, "lost_total"),
        refused=_number(described, "refused"),
        quarantined=quarantined,
        retained_bytes=backlog.folder_bytes(layout.retained_folder(spool) / folder.name),
    )
    signed = described.get("signed")
    if isinstance(signed, dict):
        status.signed_sequence = _number(signed, "sequence")
        status.signed_time = _text(signed, "time")
        status.key_id = _text(signed, "key_id")
    status.waiting = status.sealed - status.sent
    if status.waiting > 0:
        status.waiting_bytes = backlog.waiting_bytes(folder, ack)
        oldest = backlog.oldest_waiting(folder, ack or files.Ack(0, 0, 0))
        status.oldest_age = max(0.0, moment - oldest / 1e9) if oldest else 0.0
    return status


def _state(locked: bool | None, adopted_by: str) -> str:
    if locked is None:
        return DELIVERED
    if not locked:
        return DEAD
    return DRAINING if adopted_by else ALIVE


def _is_locked(folder: Path) -> bool | None:
    if not layout.lock_file(folder).exists():
        return False if layout.segments(folder) else None
    try:
        return is_locked(folder)
    except SpoolError:
        if not folder.exists():
            return None
        raise


def _quarantined(folder: Path) -> int:
    try:
        names = [entry.name for entry in layout.quarantine_folder(folder).iterdir()]
    except OSError:
        return 0
    return sum(name.endswith((".otlp", ".damaged", layout.SEGMENT_SUFFIX)) for name in names)


def _told(path: Path) -> tuple[dict[str, Any], float]:
    """The content of a status file and its time; empty where the file is malformed."""
    try:
        if not path.is_file():  # a pipe there must not hang the reader
            return {}, 0.0
        with path.open("rb") as file:
            content = json.loads(file.read(_STATUS_BYTES))
        written = path.stat().st_mtime
    except (OSError, ValueError, RecursionError):
        return {}, 0.0
    return (content, written) if isinstance(content, dict) else ({}, 0.0)


def _text(described: dict[str, Any], name: str) -> str:
    value = described.get(name)
    return value[:_TEXT] if isinstance(value, str) else ""


def _number(described: dict[str, Any], name: str) -> int:
    value = described.get(name)
    return value if type(value) is int and 0 <= value < 1 << 63 else 0


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {str(name)[:_TEXT]: _number(value, name) for name in list(value)[:20]}
