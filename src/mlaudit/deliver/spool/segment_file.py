"""A segment that is being written: every append and fdatasync of the spool."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlaudit.deliver.spool import files, layout

if TYPE_CHECKING:
    from pathlib import Path


class SegmentFile:
    """One segment, open for appending. Its owner serializes the calls.

    Attributes:
        size: bytes of whole frames in it. ``synced`` of them the disk has confirmed.
        torn: nothing more may be appended: bytes after ``size`` could not be removed, or a sync failed.
        last_sequence: of its last frame, set by the owner once the segment is complete.
    """

    __slots__ = ("_descriptor", "first_sequence", "last_sequence", "path", "size", "synced", "torn")

    def __init__(self, path: Path) -> None:
        """Creates the segment.

        Raises:
            SpoolUnavailableError: it cannot be opened.
        """
        self.path = path
        self.first_sequence = self.last_sequence = layout.first_sequence(path)
        self.size = self.synced = 0
        self.torn = False
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._descriptor, 0)
            files.sync_folder(path.parent)
        except OSError as error:
            self.close()
            raise files.unavailable(error, f"{path}: expected to open a segment") from None

    def append(self, data: bytes) -> None:
        """Hands ``data`` to the operating system; after it returns, a kill -9 of this process cannot lose it.

        Raises:
            SpoolUnavailableError: nothing of ``data`` is in the file (disk full, quota, I/O error).
        """
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            self._cut()
            raise files.unavailable(error, f"{self.path}: expected to write") from None
        self.size += len(data)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            self.torn = True

    def sync(self, size: int) -> None:
        """Returns only after fdatasync, which covers the first ``size`` bytes.

        Raises:
            SpoolUnavailableError: the disk did not confirm; everything written since the last sync is unconfirmed.
        """
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise files.unavailable(error, f"{self.path}: expected to sync") from None
        self.synced = size

    def close(self) -> None:
        """Closes the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
