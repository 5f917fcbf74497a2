"""The status file of a stream, which ``mlaudit status`` reads.

It contains counters, times and names only: no record content, no secret. The maintenance thread writes it when
something has changed; a failed write affects only the status.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from mlaudit._version import __version__
from mlaudit.deliver.send.delivery import SpooledDelivery
from mlaudit.deliver.send.tally import Watched
from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.files import replace_file
from mlaudit.rfc3339 import with_offset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlaudit.pipeline.stream import Stream
    from mlaudit.settings import Settings

VERSION: Final = 1
BEAT_SECONDS: Final = 2.0
#: The longest time between two writes: an older file shows that its process hangs.
SURE_SECONDS: Final = 30.0
_LOST_REASONS: Final = 20

_logger = logging.getLogger("mlaudit")


class Heartbeat:
    """Maintains the status file of one stream."""

    def __init__(self, settings: Settings, stream: Stream, counts: Any) -> None:
        """``counts`` is the pipeline's ``Counts``; a stream that is not on disk has no file."""
        self._settings = settings
        self._stream = stream
        self._counts = counts
        self._delivery = stream.delivery if isinstance(stream.delivery, SpooledDelivery) else None
        self._watched = Watched(self._delivery) if self._delivery is not None else None
        self._started = _moment(time.time())
        self._written: dict[str, Any] = {}
        self._next = self._sure = 0.0
        self._over = False
        self._lock = threading.Lock()

    def beat(self) -> None:
        """Writes the file if it is due and something has changed. Never raises OSError."""
        moment = time.monotonic()
        if moment >= self._next:
            self._next = moment + BEAT_SECONDS
            with self._lock:
                self._write(moment)

    def last(self) -> None:
        """Writes the file for the last time: the process that adopts the stream may remove the folder."""
        with self._lock:
            self._written = {}
            self._write(time.monotonic())
            self._over = True

    def _write(self, moment: float) -> None:
        if self._delivery is None or self._over:
            return
        status = self._status()
        if status == self._written and moment < self._sure:
            return
        self._written, self._sure = status, moment + SURE_SECONDS
        content = orjson.dumps({**status, "written": _moment(time.time())}, option=orjson.OPT_INDENT_2)
        try:
            replace_file(layout.status_file(self._delivery.spool.folder), content, sync=False)
        except OSError as error:
            _logger.debug("the status file could not be written: %s", error)

    def _status(self) -> dict[str, Any]:
        assert self._delivery is not None
        assert self._watched is not None
        settings, counts, sender = self._settings, self._counts, self._delivery.sender.counts
        totals = self._watched.totals()
        return {
            "version": VERSION,
            "stream": self._stream.id,
            "service": settings.service_name,
            "environment": settings.environment,
            "host": settings.host_name,
            "pid": os.getpid(),
            "mlaudit": __version__,
            "endpoint": settings.endpoint.partition("?")[0],  # the query may contain a secret
            "started": self._started,
            "ended": self._stream.closed,
            "sealed": self._delivery.spool.last_sequence,
            "sent": totals.acknowledged,
            "waiting": totals.waiting,
            "set_aside": totals.quarantined,
            "sending": self._delivery.sender.running,
            "lost": dict(counts.lost.most_common(_LOST_REASONS)),
            "lost_total": counts.lost.total(),
            "refused": counts.refused,
            "suppressed": counts.suppressed,
            "faults": counts.faults,
            "requests": totals.requests,
            "failures": totals.failures,
            "last_acknowledged": _moment(sender.last_acknowledged),
            "failing_since": _moment(sender.failing_since),
            "last_failure": sender.last_failure,
            "signed": self._stream.last_signature,
        }


def note_adopter(folder: Path, adopter: str) -> None:
    """Adds to a dead process's status file which process drains its stream now."""
    path = layout.status_file(folder)
    status: Mapping[str, Any] = {}
    try:
        content = orjson.loads(path.read_bytes())
        status = content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        pass  # none, or one that a crash damaged
    mark = {"version": VERSION, "stream": folder.name, "adopted_by": adopter or f"pid {os.getpid()}"}
    try:
        replace_file(path, orjson.dumps({**status, **mark}, option=orjson.OPT_INDENT_2), sync=False)
    except OSError as error:
        _logger.debug("the status file could not be written: %s", error)


def _moment(seconds: float) -> str:
    """RFC 3339 in UTC; "" for never."""
    return with_offset(datetime.fromtimestamp(seconds, UTC)) if seconds else ""
