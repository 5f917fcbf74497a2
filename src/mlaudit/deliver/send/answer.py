"""Parses the receiver's answer: whether it acknowledges the records.

Only one answer lets a record leave the spool: HTTP 200 with a well-formed ExportLogsServiceResponse that rejects
nothing (OTLP 1.x, "OTLP/HTTP response"). Any other answer, including every other 2xx and 3xx, is not an
acknowledgement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOBUF: Final = "application/x-protobuf"
MAX_RETRY_AFTER: Final = 300.0


class Verdict(Enum):
    """What to do with the batch."""

    ACKNOWLEDGED = "acknowledged"
    RETRY = "retry"  # a problem of the receiver: send the batch again later
    DIVIDE = "divide"  # a problem of the batch: find the rejected record
    UNAUTHENTICATED = "unauthenticated"  # read the token again, then retry


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, the wait in seconds that the receiver requested, and the reason in words.

    ``error_type`` is the reason with low cardinality, for metrics: a status code, a class name; "" for none.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None
    error_type: str = ""


# The receiver rejects the content of the request; a retry will not help.
_CONTENT_FAULTS: Final = frozenset({400, 413, 415, 422, 431})


def read_answer(status: int, headers: Mapping[str, str], body: bytes, now: datetime | None = None) -> Answer:
    """The verdict on an OTLP/HTTP answer; the names of ``headers`` are in lower case."""
    if status == 200:
        return _read_success(headers.get("content-type", ""), body)
    reason, code = f"HTTP {status}", str(status)
    if status in _CONTENT_FAULTS:
        return Answer(Verdict.DIVIDE, reason, error_type=code)
    if status == 401:
        return Answer(Verdict.UNAUTHENTICATED, reason, error_type=code)
    return Answer(Verdict.RETRY, reason, retry_after(headers.get("retry-after", ""), now), code)


def _read_success(content_type: str, body: bytes) -> Answer:
    media = content_type.partition(";")[0].strip().lower()
    if media != PROTOBUF:
        reason = f"HTTP 200 with content type {media[:60]!r} instead of {PROTOBUF}"
        return Answer(Verdict.RETRY, reason, error_type="unreadable_answer")
    try:
        response = ExportLogsServiceResponse.FromString(body)
    except DecodeError:
        reason = "HTTP 200 with a body that is not an ExportLogsServiceResponse"
        return Answer(Verdict.RETRY, reason, error_type="unreadable_answer")
    rejected = response.partial_success.rejected_log_records
    if rejected:
        reason = f"partial success, {rejected} rejected"
        return Answer(Verdict.DIVIDE, reason, error_type="partial_success")
    return Answer(Verdict.ACKNOWLEDGED)


def retry_after(value: str, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110: seconds or a date), at most five minutes; None when absent."""
    text = value.strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    wait = (moment - (now or datetime.now(UTC))).total_seconds()
    return min(max(wait, 0.0), MAX_RETRY_AFTER)
