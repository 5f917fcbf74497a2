"""What could not be recorded is counted here until a record can say so."""

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
    """Losses, refusals and records set aside, by reason. Thread-safe."""

    def __init__(self) -> None:
        self._untold: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, reason: str, count: int = 1) -> bool:
        """Counts; returns whether it is the first since the last report."""
        with self._lock:
            first = not self._untold
            # Reasons name kinds, and an application makes up its own: further ones are counted together.
            known = reason in self._untold or len(self._untold) < _THINGS_KEPT
            self._untold[reason if known else "for other reasons"] += count
        return first

    def report(self, actor: Actor, write: Callable[[AuditEvent], object]) -> None:
        """Writes a record for each reason; what ``write`` (raises MlauditError) does not take is kept."""
        with self._lock:
            untold, self._untold = self._untold, Counter()
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
                    self._untold.update(untold)
                    self._untold[reason] += count
                return
