"""The one runtime audit hook: dispatch, containment, what waits for the trail."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture.process import audit_hooks
from mlaudit.capture.process.background import MAX_WAITING, BackgroundThread
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.event import AuditEvent, Target
from mlaudit.pipeline import current
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "audit.runtime.deserialized"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: x, reason: y, sections: [3]}]
rules:
  - {name: strict, match: {kind: "audit.runtime.*"}, level: metadata, on_failure: refuse}
"""


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Records under the built-in policy; the hook is inert afterwards."""
    with capture(instrument=False) as found:
        yield found
    audit_hooks.uninstall()


def event() -> AuditEvent:
    """Something that happened."""
    fields = {"audit.runtime.event": "x", "audit.runtime.detail": "y"}
    return AuditEvent(KIND, target=Target("callable", "y"), fields=fields)


def test_handler_gets_its_event_and_no_other(log: AuditLog) -> None:
    """Events without a handler cost a look-up; ``leave`` and ``uninstall`` make the hook inert."""
    seen: list[Any] = []
    audit_hooks.handle({"mlaudit.test": lambda name, args: seen.append((name, args))})
    sys.audit("mlaudit.test", 1, "a")
    sys.audit("mlaudit.other", 2)
    audit_hooks.leave("mlaudit.test")
    sys.audit("mlaudit.test", 3)
    audit_hooks.handle({"mlaudit.test": lambda name, args: seen.append((name, args))})
    audit_hooks.uninstall()
    sys.audit("mlaudit.test", 4)
    assert seen == [("mlaudit.test", (1, "a"))]


def test_harmless_arguments_are_passed_over(log: AuditLog) -> None:
    """What is known as harmless reaches no handler; what cannot be looked up does."""
    seen: list[Any] = []
    harmless = {(1,)}
    audit_hooks.handle({"mlaudit.test": lambda _, args: seen.append(args)}, harmless)
    sys.audit("mlaudit.test", 1)
    sys.audit("mlaudit.test", [])
    harmless.clear()
    sys.audit("mlaudit.test", 1)
    assert seen == [([],), (1,)]


def test_what_a_handler_does_calls_no_handler(log: AuditLog) -> None:
    """Events that a handler raises in its own thread are its own doing; those of other threads are not."""
    seen: list[str] = []

    def handler(_name: str, args: tuple[Any, ...]) -> None:
        seen.append(args[0])
        if args[0] == "outer":
            sys.audit("mlaudit.test", "inner")
            thread = threading.Thread(target=sys.audit, args=("mlaudit.test", "other thread"))
            thread.start()
            thread.join(10)

    audit_hooks.handle({"mlaudit.test": handler})
    sys.audit("mlaudit.test", "outer")
    sys.audit("mlaudit.test", "again")
    assert seen == ["outer", "other thread", "again"]


def test_broken_handler_reaches_nobody(log: AuditLog) -> None:
    """A fault in a handler is recorded; the program goes on."""
    audit_hooks.handle({"mlaudit.test": lambda *_: 1 / 0})  # type: ignore[dict-item]
    sys.audit("mlaudit.test")
    assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]


def test_what_happens_before_the_trail_is_told_with_it(log: AuditLog) -> None:
    """Without a pipeline nothing is begun; what was kept is recorded later, with its own time, and is bounded."""
    previous = current.install(None)
    events = [event() for _ in range(audit_hooks.MAX_PENDING + 5)]
    try:
        for one in events:
            audit_hooks.record_event(one)
        assert current.running() is None
    finally:
        current.install(previous)
    audit_hooks.record_pending(log.pipeline)
    audit_hooks.background.finish()
    recorded = [record["audit.record.id"] for record in log.of(KIND)]
    assert recorded == [one.record_id for one in events[: audit_hooks.MAX_PENDING]]


def test_event_without_target_happened_to_the_service(log: AuditLog) -> None:
    """Its name is filled in."""
    audit_hooks.record_event(AuditEvent("audit.debug.started", fields={"audit.debug.tool": "pdb"}))
    assert log.of("audit.debug.started")[0]["audit.target.id"] == "test-service"


@pytest.mark.parametrize("threaded", [False, True])
def test_refused_is_what_cannot_be_recorded_before_it_happens(threaded: bool) -> None:
    """With ``on_failure: refuse`` the program gets the refusal; what has happened already is not refused."""
    with capture(REFUSE, instrument=False) as log:
        if threaded:
            audit_hooks.background.start()
        try:
            log.fail(SpoolUnavailableError("disk full"))
            audit_hooks.record_event(event())
            with pytest.raises(AuditRefusedError):
                audit_hooks.record_event(event(), before=True)
            log.heal()
            audit_hooks.record_event(event(), before=True)
            assert len(log.of(KIND)) == 1
        finally:
            audit_hooks.background.finish()


def test_record_that_does_not_come_in_time_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the lock that the record needs does not get past it unrecorded."""
    monkeypatch.setattr(audit_hooks, "TIMEOUT", 0.01)
    free = threading.Event()
    with capture(REFUSE, instrument=False):
        audit_hooks.background.start()
        try:
            audit_hooks.background.submit(free.wait)  # type: ignore[arg-type]
            with pytest.raises(AuditRefusedError, match="in time"):
                audit_hooks.record_event(event(), before=True)
        finally:
            free.set()
            audit_hooks.background.finish()


def test_hook_holds_nobody_up_whose_lock_the_trail_waits_for(log: AuditLog) -> None:
    """A lock that is held where the event arises, and wanted by the thread that records, is let go of."""
    lock, wanted = threading.Lock(), threading.Event()
    background = BackgroundThread()
    background.start()

    def work() -> None:
        wanted.set()
        with lock:
            pass

    with lock:
        assert background.submit(work) is False
        assert wanted.wait(10)
        assert background.submit(work, timeout=0.01) is False
    background.finish(10)


def test_too_much_at_once_is_told_as_a_fault() -> None:
    """The queue is bounded; what did not fit is recorded when there is room again."""
    background = BackgroundThread()
    background.start()
    free, recorded = threading.Event(), threading.Event()
    background.submit(free.wait)  # type: ignore[arg-type]
    for _ in range(MAX_WAITING + 5):
        background.submit(lambda: None, on_full=recorded.set)
    assert not recorded.is_set()
    free.set()
    assert recorded.wait(30)
    background.finish()


def test_work_that_fails_does_not_end_the_thread() -> None:
    """The next work is done all the same, and what waits at the end is done by whoever ends it."""
    background = BackgroundThread()
    background.start()
    background.submit(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert background.submit(lambda: None, timeout=10)
    background.finish(10)
    done: list[int] = []
    background.submit(lambda: done.append(1))
    assert done == [1]
