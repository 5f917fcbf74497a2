"""Counts what could not be recorded, until a record can report it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from mlaudit.catalog.names import PIPELINE_FAILURE
from mlaudit.errors import MlauditError
from mlaudit.event import FAILURE, Actor, AuditEvent

if TYPE_CHECKING:
    from collections.abc import Callable

#: A fault that goes on is recorded, and logged, once in so many seconds.
QUIET_SECONDS: Final = 10.0
_THINGS_KEPT: Final = 1000


class Losses:
    """Losses, refusals and quarantined records, by reason. Thread-safe."""

    def __init__(self) -> None:
        self._unreported: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, reason: str, count: int = 1) -> bool:
        """Counts a loss; returns whether it is the first since the last report."""
        with self._lock:
            first = not self._unreported
            # Reasons name kinds, and applications define their own: further reasons are counted together.
            known = reason in self._unreported or len(self._unreported) < _THINGS_KEPT
            self._unreported[reason if known else "for other reasons"] += count
        return first

    def report(self, actor: Actor, write: Callable[[AuditEvent], object]) -> None:
        """Writes a record for each reason; a count for which ``write`` raises MlauditError is kept."""
        with self._lock:
            untold, self._unreported = self._unreported, Counter()
        while untold:
            reason, count = untold.popitem()
            fields = {
                "audit.component": "deliver",
                "audit.failure.reason": reason,
                "audit.lost.count": count,
                "audit.lost.reason": reason,
            }
            try:
                write(AuditEvent(PIPELINE_FAILURE, FAILURE, actor=actor, fields=fields))
            except MlauditError:
                with self._lock:
                    self._unreported.update(untold)
                    self._unreported[reason] += count
                return
