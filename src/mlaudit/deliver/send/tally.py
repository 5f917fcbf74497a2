"""The totals of this process's deliveries over all its streams.

Metrics and status read them; appending and sending have no extra cost, because they maintain the counters anyway.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlaudit.deliver.spool.backlog import oldest_waiting

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.deliver.send.delivery import SpooledDelivery


@dataclass(slots=True)
class Totals:
    """Sums over streams.

    Attributes:
        sealed: records that this process appended.
        acknowledged, quarantined, requests, failures: see ``SenderCounts``.
        waiting, waiting_bytes: unacknowledged records of this process, and their bytes.
        oldest: time of the oldest such record, nanoseconds since the epoch; 0 when nothing waits.
    """

    sealed: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    requests: int = 0
    failures: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    oldest: int = 0

    def add(self, other: Totals) -> None:
        """Adds ``other`` to this."""
        self.sealed += other.sealed
        self.acknowledged += other.acknowledged
        self.quarantined += other.quarantined
        self.requests += other.requests
        self.failures += other.failures
        self.waiting += other.waiting
        self.waiting_bytes += other.waiting_bytes
        self.oldest = min(filter(None, (self.oldest, other.oldest)), default=0)


class Tally:
    """All deliveries that this process opened: its own streams, and those that it adopted. Thread-safe."""

    def __init__(self, spool_dir: Path) -> None:
        self.spool_dir = spool_dir
        self._lock = threading.Lock()
        self._live: list[Watched] = []
        self._past = {False: Totals(), True: Totals()}

    def watch(self, delivery: SpooledDelivery, *, adopted: bool) -> None:
        """Includes a delivery from now on."""
        with self._lock:
            self._fold()
            self._live.append(Watched(delivery, adopted))

    def totals(self, *, adopted: bool) -> Totals:
        """The sums over this process's own streams, or over those it adopted; all but the waiting ones only grow."""
        sums = Totals()
        with self._lock:
            self._fold()
            sums.add(self._past[adopted])
            for watched in self._live:
                if watched.adopted == adopted:
                    sums.add(watched.totals())
        return sums

    def failing_since(self) -> float:
        """Since when this process's own senders have failed without success, seconds since the epoch; 0 if not."""
        with self._lock:
            times = [one.delivery.sender.counts.failing_since for one in self._live if not one.adopted]
        return min(filter(None, times), default=0.0)

    def _fold(self) -> None:
        """Keeps only the sums of a closed delivery; a sender that still runs may add to them."""
        for watched in [one for one in self._live if one.delivery.closed and not one.delivery.sender.running]:
            self._live.remove(watched)
            self._past[watched.adopted].add(watched.totals())


class Watched:
    """One delivery, and the cached time of its oldest waiting record."""

    def __init__(self, delivery: SpooledDelivery, adopted: bool = False) -> None:
        self.delivery = delivery
        self.adopted = adopted
        self._before = delivery.spool.last_sequence
        self._oldest = (-1, 0)

    def totals(self) -> Totals:
        """The current sums."""
        spool, counts = self.delivery.spool, self.delivery.sender.counts
        acknowledged = spool.acknowledged
        sums = Totals(
            sealed=spool.last_sequence - self._before,
            acknowledged=counts.acknowledged,
            quarantined=counts.quarantined,
            requests=counts.requests,
            failures=counts.failures,
        )
        waiting = spool.last_sequence - acknowledged.sequence
        if waiting > 0 and not (self.delivery.closed and not self.delivery.sender.running):
            sums.waiting = waiting
            sums.waiting_bytes = max(0, spool.stored_bytes - acknowledged.offset)
            if self._oldest[0] != acknowledged.sequence or not self._oldest[1]:
                self._oldest = acknowledged.sequence, oldest_waiting(spool.folder, acknowledged)
            sums.oldest = self._oldest[1]
        return sums
