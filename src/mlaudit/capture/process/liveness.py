"""Which processes of one service are alive: each holds the lock of a file of its own.

The kernel releases a lock when its holder dies, however it dies, so no process has to clean up after itself, and
a process id, which another process may get, is not used.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from mlaudit.deliver.spool.files import make_folder
from mlaudit.event import new_record_id
from mlaudit.safety.file_lock import remove_unheld, try_lock

if TYPE_CHECKING:
    from pathlib import Path


class Mark:
    """The mark of this process in a folder that the processes of its service share."""

    def __init__(self, folder: Path) -> None:
        """Takes a mark.

        Raises:
            OSError, SpoolUnavailableError: the folder cannot be written.
        """
        make_folder(folder)
        while True:
            self.name = new_record_id()
            self._path = folder / self.name
            descriptor = try_lock(self._path)
            # Another process may have found it before it was locked, and removed it as a dead one.
            if descriptor is not None:
                self._descriptor = descriptor
                return

    def drop(self) -> None:
        """Removes the mark: this process no longer serves."""
        self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Closes this process's copy: a forked child does not keep its parent's mark alive."""
        os.close(self._descriptor)


def sweep(folder: Path) -> None:
    """Removes the marks of dead processes."""
    with contextlib.suppress(OSError):
        for path in tuple(folder.iterdir()):
            is_alive(folder, path.name)


def is_alive(folder: Path, name: str) -> bool:
    """Whether the process that took this mark lives and has not dropped it."""
    return not remove_unheld(folder / name)
