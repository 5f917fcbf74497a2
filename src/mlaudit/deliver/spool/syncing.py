"""Schedules syncs: at once for durable records, otherwise every 50 ms."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from mlaudit.errors import MlauditError

if TYPE_CHECKING:
    from collections.abc import Callable

SYNC_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 1.0
_logger = logging.getLogger("mlaudit")


class SyncThread:
    """A thread that is started with the first record. Its fields are protected by the spool's lock.

    Args:
        state: the condition to notify when there is something to sync.
        sync: does the sync.
        doubtful: whether a retry is due although nothing is new.
    """

    def __init__(
        self, state: threading.Condition, sync: Callable[[], object], doubtful: Callable[[], bool]
    ) -> None:
        self.dirty = False
        self.urgent = False
        self.stopping = False
        self._state = state
        self._sync = sync
        self._doubtful = doubtful
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mlaudit-sync", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Returns when the thread, after it was stopped, has ended."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        last = 0.0
        while True:
            with self._state:
                while not (self.dirty or self.stopping):
                    doubtful = self._doubtful()
                    if not self._state.wait(_RETRY_SECONDS if doubtful else None) and doubtful:
                        break
                if not self.urgent and not self.stopping:
                    # Only buffered records: batch them, but no longer than guaranteed.
                    self._state.wait(max(0.0, SYNC_SECONDS - (time.monotonic() - last)))
                if self.stopping and not self.dirty:
                    return
            last = time.monotonic()
            try:
                self._sync()
            except (MlauditError, OSError):
                _logger.exception("syncing the audit spool failed")
