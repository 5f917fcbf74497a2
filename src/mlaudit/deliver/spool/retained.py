"""Delivered segments stay for a while, so that what the far end lost after all can be sent again.

Any number of processes keep, prune and read here at once: files are moved in by rename and go by unlink, and
whoever comes second finds nothing to do.
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
    """How long, and how much, delivered segments of one spool are kept. Zero of either keeps nothing."""

    def __init__(self, spool: Path, seconds: float, max_bytes: int) -> None:
        self._spool = spool
        self._seconds = seconds
        self._max_bytes = max_bytes

    def take(self, segment: Path) -> None:
        """Takes a delivered segment out of its stream's folder.

        One that cannot be kept is deleted: what is delivered must not stand in the way of what is not.
        Raises OSError when it cannot be deleted either.
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
        """Deletes what was kept long enough, then the oldest until the rest is small enough; returns how many."""
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
        """Deletes the oldest until ``size`` bytes are free for what is not delivered; False when there is nothing."""
        freed = 0
        for entry in self._kept():
            if freed >= size:
                break
            if _delete(entry.path):
                freed += entry.size
        if freed:
            _logger.warning("the disk is full: %d bytes of delivered records are given up", freed)
        return freed > 0

    def _keep(self, segment: Path) -> None:
        folder = layout.retained_folder(self._spool) / segment.parent.name
        for last_try in (False, True):
            files.make_folder(folder)
            try:
                os.utime(segment)  # kept from now on, whenever it was written
                segment.rename(folder / segment.name)
            except FileNotFoundError:  # another process has just found the folder empty
                if last_try:
                    raise
            else:
                return

    def _kept(self) -> list[_Kept]:
        """Everything that is kept, oldest first."""
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
    except OSError:  # another process was faster, or the disk is broken
        return False
    with suppress(OSError):
        path.parent.rmdir()
    return True
