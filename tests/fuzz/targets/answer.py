"""A receiver's response of any form gives a verdict, and only the one valid response is an acknowledgement."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from tests.fuzz.choices import Choices

from mlaudit.deliver.send.answer import MAX_RETRY_AFTER, PROTOBUF, Verdict, read_answer

_STATUS = (
    200,
    201,
    204,
    206,
    301,
    304,
    307,
    400,
    401,
    403,
    408,
    413,
    415,
    422,
    429,
    431,
    500,
    502,
    503,
    504,
    0,
    -1,
    999,
)
_TYPES = (
    PROTOBUF,
    f"{PROTOBUF}; charset=utf-8",
    "application/json",
    "text/html",
    "",
    "APPLICATION/X-PROTOBUF",
)
_WAITS = (
    "", "0", "1", "-1", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT",
    "1 Jan 1 0:0:0 +9999999999",
    "٣", "1.5", "Thu, 1 Jan 1970 00:00:00 -2400", "1 Jan 0001 00:00 +2359", "31 Dec 9999 23:59:59 -2359",
)  # fmt: skip


def run(data: bytes) -> None:
    """Reads the response."""
    choices = Choices(data)
    status = choices.pick(_STATUS)
    headers = {
        "content-type": choices.pick(_TYPES) if choices.below(4) else choices.text(),
        "retry-after": choices.pick(_WAITS) if choices.often() else choices.text(),
    }
    response = ExportLogsServiceResponse()
    if choices.often():
        response.partial_success.rejected_log_records = choices.below(3)
        response.partial_success.error_message = choices.text().encode("utf-8", "replace").decode()
    body = choices.mutated(response.SerializeToString()) if choices.often() else choices.rest()
    answer = read_answer(status, headers, body)
    if answer.retry_after is not None:
        assert 0 <= answer.retry_after <= MAX_RETRY_AFTER
    if answer.verdict is Verdict.ACKNOWLEDGED:
        assert status == 200
        assert headers["content-type"].lower().startswith(PROTOBUF)
        assert not ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records
    else:
        assert answer.reason
        assert answer.reason.isprintable(), "what a receiver says reaches a log line"
