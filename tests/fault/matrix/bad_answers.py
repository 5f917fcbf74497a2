"""Answers that are none, or not what they seem: what the proxy does instead of forwarding."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from tests.fault.matrix.proxy import Exchange, forward

WAIT = 2
_OTLP = {"Content-Type": "application/x-protobuf"}
_LIMIT = 96 << 10


def partial_success(exchange: Exchange) -> None:
    """Takes the first half of the records and says that it rejected the rest."""
    request = ExportLogsServiceRequest.FromString(exchange.read())
    records = request.resource_logs[0].scope_logs[0].log_records
    rejected = len(records) - len(records) // 2
    del records[len(records) // 2 :]
    if records:
        answer = exchange.forward(request.SerializeToString())
        if b" 200 " not in answer[:20]:
            exchange.send(answer)
            return
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = "the proxy took only the first half"
    exchange.answer("200 OK", _OTLP, response.SerializeToString())


def cut_partial_success(exchange: Exchange) -> None:
    """As above, and the answer ends before its body: an empty body would mean that all is taken."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 1
    body = response.SerializeToString()
    exchange.read()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n")
    exchange.send(f"Content-Length: {len(body)}\r\n\r\n".encode())
    exchange.close()


def endless_partial_success(exchange: Exchange) -> None:
    """An answer of no stated length that ends before its body."""
    exchange.read()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nConnection: close\r\n\r\n")
    exchange.close()


def too_large(exchange: Exchange) -> None:
    """Refuses what is above a limit, as a reverse proxy does; takes the rest."""
    if exchange.length > _LIMIT:
        exchange.answer("413 Request Entity Too Large", body=b"too large")
    else:
        forward(exchange)


def wait_seconds(exchange: Exchange) -> None:
    """Asks for patience in seconds."""
    exchange.answer("429 Too Many Requests", {"Retry-After": str(WAIT)})


def wait_date(exchange: Exchange) -> None:
    """Asks for patience with a date, which has no fractions of seconds."""
    moment = formatdate(time.time() + WAIT + 1, usegmt=True)
    exchange.answer("503 Service Unavailable", {"Retry-After": moment})


def hang_at_once(exchange: Exchange) -> None:
    """Reads nothing more and never answers."""
    exchange.hold()


def hang_after_reading(exchange: Exchange) -> None:
    """Reads the request and never answers."""
    exchange.read()
    exchange.hold()


def hang_in_the_answer(exchange: Exchange) -> None:
    """Forwards the request, and stops in the middle of the answer."""
    answer = exchange.forward()
    exchange.send(answer[: len(answer) // 2])
    exchange.hold()


def drip(exchange: Exchange) -> None:
    """An answer that never ends, a byte at a time."""
    exchange.read()
    exchange.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100000\r\n\r\n"
    )
    while True:
        exchange.send(b"\n")
        time.sleep(0.5)


def reset_in_the_request(exchange: Exchange) -> None:
    """Reads half of the request and resets the connection."""
    exchange.read(0.5)
    exchange.reset()


def reset_in_the_answer(exchange: Exchange) -> None:
    """Forwarded, and the connection is reset in the middle of the answer."""
    answer = exchange.forward()
    exchange.send(answer[: len(answer) // 2])
    exchange.reset()


def lost_answer(exchange: Exchange) -> None:
    """Forwarded and stored; nobody says so."""
    exchange.forward()
    exchange.reset()


def tls_close(exchange: Exchange) -> None:
    """The connection is closed properly before an answer."""
    exchange.read()
    exchange.say_goodbye()


def tls_cut(exchange: Exchange) -> None:
    """The connection is closed without a close_notify, after forwarding."""
    exchange.forward()
    exchange.close()


def answer(
    status: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Callable[[Exchange], None]:
    """An answer given without asking the collector."""
    return lambda exchange: exchange.answer(status, headers, body)


@dataclass(frozen=True)
class Bad:
    """One way to answer badly, and how often: a share of requests, up to a number."""

    act: Callable[[Exchange], None]
    share: float = 0.3
    most: int = 1_000_000


BAD: dict[str, Bad] = {
    "partial-success": Bad(partial_success),
    "partial-success-cut": Bad(cut_partial_success),
    "partial-success-without-length": Bad(endless_partial_success),
    "429-retry-after-seconds": Bad(wait_seconds, 0.15),
    "503-retry-after-date": Bad(wait_date, 0.15),
    "503": Bad(answer("503 Service Unavailable", body=b"busy")),
    "400": Bad(answer("400 Bad Request", _OTLP, b"\x08\x03"), 0.15),
    "413": Bad(too_large, 1.0),
    "304": Bad(answer("304 Not Modified")),
    "garbage": Bad(answer("200 OK", _OTLP, b"\xff\xfe garbage \x00")),
    "html": Bad(answer("200 OK", {"Content-Type": "text/html"}, b"<html>Welcome</html>")),
    "json": Bad(answer("200 OK", {"Content-Type": "application/json"}, b"{}")),
    "no-content": Bad(answer("204 No Content")),
    "redirect": Bad(answer("307 Temporary Redirect", {"Location": "/elsewhere"})),
    "401": Bad(answer("401 Unauthorized")),
    "reset-in-request": Bad(reset_in_the_request),
    "reset-in-answer": Bad(reset_in_the_answer),
    "lost-answer": Bad(lost_answer),
    "close": Bad(tls_close),
    "close-without-goodbye": Bad(tls_cut),
    "hang-before-request": Bad(hang_at_once, 0.3, 1),
    "hang-after-request": Bad(hang_after_reading, 0.3, 1),
    "hang-in-answer": Bad(hang_in_the_answer, 0.3, 1),
    "drip": Bad(drip, 0.3, 1),
}
