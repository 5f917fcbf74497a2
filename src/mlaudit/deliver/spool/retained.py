"""Retains delivered segments for a while, so that records that the receiving end has lost can be sent again.

Any number of processes add, prune and read concurrently: files are added by rename and removed by unlink, and the
second process to handle a file finds nothing to do.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mlaudit.deliver.spool import files, layout
from mlaudit.errors import SpoolUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger("mlaudit")


class _Kept(NamedTuple):
    since: float
    size: int
    path: Path


class Retention:
    """Limits on age and size of the delivered segments of one spool. Zero for either retains nothing."""

    def __init__(self, spool: Path, seconds: float, max_bytes: int) -> None:
        self._spool = spool
        self._seconds = seconds
        self._max_bytes = max_bytes

    def take(self, segment: Path) -> None:
        """Moves a delivered segment out of its stream's folder.

        A segment that cannot be retained is deleted: delivered records must not block undelivered ones. Raises
        OSError when it cannot be deleted either.
        """
        if self._seconds > 0 and self._max_bytes > 0:
            try:
                self._keep(segment)
            except (OSError, SpoolUnavailableError) as error:
                _logger.warning("%s: delivered, and deleted because it cannot be kept: %s", segment, error)
            else:
                self.prune()
                return
        segment.unlink(missing_ok=True)

    def prune(self) -> int:
        """Deletes expired segments, then the oldest until the size limit is met; returns the number deleted."""
        kept = self._kept()
        total = sum(entry.size for entry in kept)
        horizon = time.time() - self._seconds
        gone = 0
        for entry in kept:
            if self._seconds > 0 and entry.since > horizon and total <= self._max_bytes:
                break
            total -= entry.size
            gone += _delete(entry.path)
        return gone

    def give_up(self, size: int) -> bool:
        """Deletes the oldest until ``size`` bytes are free for undelivered records; False without any segment."""
        freed = 0
        for entry in self._kept():
            if freed >= size:
                break
            if _delete(entry.path):
                freed += entry.size
        if freed:
            _logger.warning("the disk is full: deleted %d bytes of delivered records", freed)
        return freed > 0

    def _keep(self, segment: Path) -> None:
        folder = layout.retained_folder(self._spool) / segment.parent.name
        for last_try in (False, True):
            files.make_folder(folder)
            try:
                os.utime(segment)  # retained from now on, whenever it was written
                segment.rename(folder / segment.name)
            except FileNotFoundError:  # another process has just found the folder empty
                if last_try:
                    raise
            else:
                return

    def _kept(self) -> list[_Kept]:
        """All retained segments, oldest first."""
        found: list[_Kept] = []
        for folder in layout.retained_streams(self._spool):
            for path in layout.segments(folder):
                with suppress(OSError):
                    status = path.stat()
                    found.append(_Kept(status.st_mtime, status.st_size, path))
        return sorted(found)


def _delete(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:  # another process was faster, or the disk fails
        return False
    with suppress(OSError):
        path.parent.rmdir()
    return True
