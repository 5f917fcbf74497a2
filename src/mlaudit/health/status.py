"""Every stream of this host's spool, and what needs attention."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.deliver.spool import backlog, layout
from mlaudit.errors import SpoolError
from mlaudit.health.streams import ALIVE, DEAD, StreamStatus, look

if TYPE_CHECKING:
    from pathlib import Path

#: A living process writes its status at least every 30 s.
_STILL_SECONDS: Final = 90.0
#: Adopters scan every 15 s.
_ADOPTION_SECONDS: Final = 60.0
_DISK_SPARE: Final = 64 << 20


@dataclass(slots=True)
class SpoolStatus:
    """The streams of one spool, and findings about the spool itself."""

    spool: str
    streams: list[StreamStatus] = field(default_factory=list)
    free_bytes: int = 0
    retained_bytes: int = 0
    attention: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing needs attention."""
        return not self.attention and not any(stream.attention for stream in self.streams)

    def to_dict(self) -> dict[str, Any]:
        """The status as plain values."""
        return {
            "ok": self.ok,
            "spool": self.spool,
            "free_bytes": self.free_bytes,
            "retained_bytes": self.retained_bytes,
            "attention": self.attention,
            "streams": [stream.to_dict() for stream in self.streams],
        }


def read_status(spool: Path, patience: float, now: float | None = None) -> SpoolStatus:
    """Reads a spool. Records that wait longer than ``patience`` seconds need attention.

    Raises:
        SpoolError: there is no such folder, or it cannot be read.
    """
    if not spool.is_dir():
        raise SpoolError(
            f"{spool}: expected a spool folder, found none; has an audited process run as this user? "
            "MLAUDIT_SPOOL_DIR or MLAUDIT_STATE_DIR names another one"
        )
    try:
        folders = sorted({*layout.streams(spool), *layout.quarantined_streams(spool)})
        seen = SpoolStatus(str(spool), free_bytes=shutil.disk_usage(spool).free)
    except OSError as error:
        raise SpoolError(f"{spool}: expected a readable spool folder, found {error.strerror}") from None
    seen.retained_bytes = backlog.folder_bytes(layout.retained_folder(spool))
    moment = time.time() if now is None else now
    for folder in folders:
        stream = look(folder, spool, moment)
        if stream is not None:
            judge(stream, patience)
            seen.streams.append(stream)
    if seen.free_bytes < _DISK_SPARE:
        seen.attention.append(f"the disk of the spool has {size(seen.free_bytes)} left")
    return seen


def judge(stream: StreamStatus, patience: float) -> None:
    """Adds to a stream what about it needs attention."""
    say = stream.attention.append
    if stream.waiting > 0 and stream.oldest_age > patience:
        why = f": {stream.last_failure}" if stream.failing_since and stream.last_failure else ""
        say(f"{stream.waiting} records wait, the oldest for {age(stream.oldest_age)}{why}")
    if stream.state == ALIVE and stream.waiting > 0 and not stream.sending:
        say("its sender has stopped while the process lives; restart it, nothing is lost")
    if stream.lost_total:
        kinds = ", ".join(f"{count} of {reason}" for reason, count in stream.lost.items())
        say(f"{stream.lost_total} records were lost ({kinds})")
    if stream.refused:
        say(f"{stream.refused} actions were refused because they could not be recorded")
    if stream.quarantined:
        say(f"{stream.quarantined} records are quarantined")
    if stream.state == ALIVE and stream.described and stream.written_age > _STILL_SECONDS:
        say(f"no status from its process since {age(stream.written_age)}: stopped, hung, or its disk is full")
    if stream.state == DEAD:
        waited = max(stream.oldest_age, stream.written_age)
        if stream.waiting > 0 or waited > _ADOPTION_SECONDS:
            say(f"its process is gone and the stream is not adopted; {stream.waiting} records wait")


def age(seconds: float) -> str:
    """A duration for display."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def size(count: int) -> str:
    """A number of bytes for display."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
