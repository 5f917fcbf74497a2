from __future__ import annotations

import threading

from mlaudit.errors import SpoolFullError
from mlaudit.pipeline.maintenance import Tender


def test_both_works_go_on_until_stopped_whatever_they_raise() -> None:
    """A failure of one round ends neither the rounds that follow nor the other work."""
    rounds = threading.Semaphore(0)
    adopted = threading.Event()

    def tend() -> None:
        rounds.release()
        raise SpoolFullError("full")

    def adopt() -> None:
        adopted.set()
        raise OSError(5, "Input/output error")

    tender = Tender(tend, adopt)
    assert all(rounds.acquire(timeout=10) for _ in range(3))
    assert adopted.wait(10)
    tender.stop()
