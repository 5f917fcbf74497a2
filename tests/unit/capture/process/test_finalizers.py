"""What ends without saying so."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from collections.abc import Iterator

import pytest

from mlaudit.capture.process import finalizers
from mlaudit.capture.process.background import background
from mlaudit.capture.process.finalizers import OnFinalize, run_all


class Reader:
    """Something that is read; it refers to itself, so that only the collector ends it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def _aside() -> Iterator[None]:
    yield
    background.finish()


def test_what_is_gone_is_told_once_by_another_thread() -> None:
    """The collector may run while this thread holds what the record needs: it waits for nobody."""
    lock = threading.Lock()
    recorded: list[str] = []
    done = threading.Event()

    def callback() -> None:
        with lock:
            recorded.append(threading.current_thread().name)
        done.set()

    OnFinalize(Reader(), callback)
    with lock:
        gc.collect()
        assert recorded == []
    assert done.wait(10)
    run_all()
    assert recorded == ["mlaudit-runtime"]


def test_what_was_ended_in_order_is_not_given_up() -> None:
    """Whoever ends it takes the watch off, once."""
    recorded: list[int] = []
    reader = Reader()
    watch = OnFinalize(reader, lambda: recorded.append(1))
    assert watch.detach()
    assert not watch.detach()
    del reader
    gc.collect()
    run_all()
    background.finish()
    assert recorded == []


def test_what_is_open_at_the_end_is_told_then() -> None:
    """Each open thing is recorded before the process ends, and not again when it goes."""
    recorded: list[int] = []
    reader = Reader()
    OnFinalize(reader, lambda: recorded.append(1))
    run_all()
    assert recorded == [1]
    del reader
    gc.collect()
    background.finish()
    assert recorded == [1]


def _open_in_child(queue: multiprocessing.Queue[int]) -> None:
    queue.put(len(finalizers._open))


def test_a_forked_child_does_not_tell_what_is_its_parents() -> None:
    """What was open when it was forked does not belong to the child."""
    reader = Reader()
    watch = OnFinalize(reader, lambda: None)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_open_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == 0
    child.join(30)
    assert watch.detach()
