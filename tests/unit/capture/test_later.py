"""What finalizers leave to be recorded."""

from __future__ import annotations

import gc
import threading
import weakref

from mlaudit.capture.later import later, ready, settle


def test_work_is_done_by_another_thread_in_order() -> None:
    """Whatever an earlier one raised."""
    ready()
    seen: list[object] = []

    def fails() -> None:
        raise RuntimeError("broken on purpose")

    later(fails)
    later(lambda: seen.append(1))
    later(lambda: seen.append(threading.current_thread().name))
    assert settle(10)
    assert seen == [1, "mlaudit-later"]


def test_a_finalizer_under_a_lock_waits_for_nobody() -> None:
    """The collector may run while this thread holds what the record needs."""
    ready()
    lock = threading.Lock()
    done: list[int] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

    def record() -> None:
        with lock:
            done.append(1)

    weakref.finalize(Cycle(), later, record)
    with lock:
        gc.collect()
        assert done == []
    assert settle(10)
    assert done == [1]
