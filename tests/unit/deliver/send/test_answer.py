from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.unit.deliver.receiver import partial

from mlaudit.deliver.send.answer import MAX_RETRY_AFTER, PROTOBUF, Verdict, read_answer, retry_after

OK = {"content-type": PROTOBUF}


@pytest.mark.parametrize(
    ("status", "headers", "body", "verdict"),
    [
        (200, OK, b"", Verdict.ACKNOWLEDGED),
        (200, {"content-type": PROTOBUF + "; charset=binary"}, b"", Verdict.ACKNOWLEDGED),
        (200, OK, partial(0)[2], Verdict.ACKNOWLEDGED),
        (200, OK, partial(3)[2], Verdict.DIVIDE),
        (200, OK, b"\xff\xff\xff", Verdict.RETRY),
        (200, {"content-type": "text/html"}, b"<html>", Verdict.RETRY),
        (200, {}, b"", Verdict.RETRY),
        (202, OK, b"", Verdict.RETRY),
        (204, OK, b"", Verdict.RETRY),
        (302, OK, b"", Verdict.RETRY),
        (304, OK, b"", Verdict.RETRY),
        (400, OK, b"", Verdict.DIVIDE),
        (401, OK, b"", Verdict.UNAUTHENTICATED),
        (403, OK, b"", Verdict.RETRY),
        (404, OK, b"", Verdict.RETRY),
        (413, OK, b"", Verdict.DIVIDE),
        (429, OK, b"", Verdict.RETRY),
        (500, OK, b"", Verdict.RETRY),
        (503, OK, b"", Verdict.RETRY),
    ],
)
def test_only_a_full_acknowledgement_counts(
    status: int, headers: dict[str, str], body: bytes, verdict: Verdict
) -> None:
    """Only HTTP 200 with a well-formed response that rejects nothing acknowledges a batch."""
    assert read_answer(status, headers, body).verdict is verdict


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("7", 7.0),
        ("999999999999", MAX_RETRY_AFTER),
        ("Wed, 25 Nov 2026 03:30:10 GMT", 10.0),
        ("Wed, 25 Nov 2026 03:29:10 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    """Retry-After is parsed as seconds and as a date, and limited to five minutes."""
    assert retry_after(value, datetime(2026, 11, 25, 3, 30, tzinfo=UTC)) == seconds
