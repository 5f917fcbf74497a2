from __future__ import annotations

import mlaudit
from mlaudit.errors import SpoolFullError
from mlaudit.testing import AuditLog


def test_fixture_captures_what_the_test_does(audit_records: AuditLog) -> None:
    """The pytest fixture that comes with mlaudit shows the records of the code under test."""
    record_id = mlaudit.record(
        "audit.app.report.exported", outcome="failure", fields={"event.reason": "no space"}
    )
    (record,) = audit_records.of("audit.app.report.exported")
    assert (record["audit.record.id"], record["event.outcome"]) == (record_id, "failure")
    assert audit_records.kinds() == ["audit.app.report.exported"]


def test_fixture_can_play_a_full_disk(audit_records: AuditLog) -> None:
    """A test can make recording fail, and see that its code goes on."""
    audit_records.fail(SpoolFullError("full"))
    mlaudit.record("audit.app.report.exported")
    audit_records.heal()
    mlaudit.record("audit.app.report.exported")
    assert len(audit_records.of("audit.app.report.exported")) == 1


def test_nothing_is_left_behind() -> None:
    """Outside of the fixture there is no pipeline."""
    from mlaudit.pipeline import current

    assert current.install(None) is None
