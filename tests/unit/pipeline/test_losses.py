from __future__ import annotations

from mlaudit.errors import SpoolFullError
from mlaudit.event import Actor, AuditEvent
from mlaudit.pipeline.losses import QUIET_SECONDS, Losses
from mlaudit.safety.rate_limit import RateLimit

ACTOR = Actor("svc")


def test_each_reason_is_told_once_with_its_count() -> None:
    """A report writes one record per reason with the number, and then nothing is left to report."""
    losses = Losses()
    assert losses.note("full")
    assert not losses.note("full", 2)
    losses.note("refused")
    told: list[AuditEvent] = []
    losses.report(ACTOR, told.append)
    losses.report(ACTOR, told.append)
    assert {e.fields["audit.lost.reason"]: e.fields["audit.lost.count"] for e in told} == {
        "full": 3,
        "refused": 1,
    }
    assert all(event.outcome == "failure" and event.actor is ACTOR for event in told)


def test_what_cannot_be_told_yet_is_kept() -> None:
    """While records still cannot be stored, no count is lost."""
    losses = Losses()
    losses.note("a", 2)
    losses.note("b", 3)

    def refuse(event: AuditEvent) -> None:
        raise SpoolFullError("full")

    losses.report(ACTOR, refuse)
    losses.note("a")
    told: list[AuditEvent] = []
    losses.report(ACTOR, told.append)
    assert {e.fields["audit.lost.reason"]: e.fields["audit.lost.count"] for e in told} == {"a": 3, "b": 3}


def test_the_same_thing_is_not_told_again_at_once() -> None:
    """A repeated thing is mentioned once in ten seconds, another thing at once."""
    limit: RateLimit[tuple[str, str]] = RateLimit(1, QUIET_SECONDS)
    assert limit.allow(("x", "ValueError"))
    assert not limit.allow(("x", "ValueError"))
    assert limit.allow(("x", "KeyError"))
