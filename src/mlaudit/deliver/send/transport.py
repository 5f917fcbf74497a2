"""One POST over OTLP/HTTP."""

from __future__ import annotations

import gzip
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import urllib3

from mlaudit.deliver.send.answer import PROTOBUF, Answer, Verdict, read_answer
from mlaudit.deliver.send.deadline import Deadline
from mlaudit.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
_ANSWER_BYTES: Final = 1 << 20


class Transport(Protocol):
    """Sends a serialised ExportLogsServiceRequest and returns the answer. Never raises for the receiver."""

    def post(self, request: bytes) -> Answer:
        """Sends one request."""
        ...

    def renew(self) -> None:
        """Reads credentials again."""
        ...

    def close(self) -> None:
        """Closes connections."""
        ...


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where and how to send. ``token_file`` holds the bearer token; it is never kept in an argument or a log."""

    endpoint: str
    headers: tuple[tuple[str, str], ...] = ()
    token_file: Path | None = None
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    gzip: bool = False


class HttpTransport:
    """OTLP/HTTP with protobuf, over a kept connection. For one thread."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._headers: dict[str, str] = {}
        self._where = receiver.endpoint.partition("?")[0]  # the query may contain a secret
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_ANSWER_SECONDS),
            ca_certs=str(receiver.ca_file) if receiver.ca_file else None,
            cert_file=str(receiver.client_cert_file) if receiver.client_cert_file else None,
            key_file=str(receiver.client_key_file) if receiver.client_key_file else None,
            ssl_minimum_version=ssl.TLSVersion.TLSv1_2,
            cert_reqs="CERT_REQUIRED",
        )
        self._deadline = Deadline(self._pool)

    def post(self, request: bytes) -> Answer:
        """Sends one request; an unreachable receiver or an invalid answer gives an Answer too."""
        if not self._headers:
            try:
                self._headers = request_headers(self._receiver)
            except DeliveryError as error:
                return Answer(Verdict.RETRY, str(error), error_type="no_token")
        body = gzip.compress(request, 1) if self._receiver.gzip else request
        try:
            with self._deadline.within(_CONNECT_SECONDS + 2 * _ANSWER_SECONDS):
                response = self._pool.request(
                    "POST",
                    self._receiver.endpoint,
                    body=body,
                    headers=self._headers,
                    redirect=False,
                    preload_content=False,
                )
                return read_answer(response.status, _lowered(response.headers), _read_body(response))
        except DeliveryError as error:
            return Answer(Verdict.RETRY, f"{self._where}: {error}", error_type="unreadable_answer")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            name = type(error).__name__
            return Answer(Verdict.RETRY, f"{self._where}: {name}", error_type=name)

    def renew(self) -> None:
        """Reads the token again before the next request."""
        self._headers = {}

    def close(self) -> None:
        """Closes the connection."""
        self._pool.clear()


def request_headers(receiver: Receiver) -> dict[str, str]:
    """The headers of a request, with the current token of the token file.

    Raises:
        DeliveryError: the token file is empty, or its content is not valid in a header.
    """
    headers = {"content-type": PROTOBUF, "user-agent": "mlaudit", **dict(receiver.headers)}
    if receiver.gzip:
        headers["content-encoding"] = "gzip"
    if receiver.token_file is not None:
        try:
            token = receiver.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        if not token:
            raise DeliveryError(
                f"{receiver.token_file}: expected a bearer token, found none; see MLAUDIT_TOKEN_FILE"
            )
        if not all("!" <= character <= "~" for character in token):
            # The HTTP library would refuse the token, and quote it in the error.
            raise DeliveryError(
                f"{receiver.token_file}: expected one bearer token, found blanks or line ends in it; "
                "see MLAUDIT_TOKEN_FILE"
            )
        headers["authorization"] = f"Bearer {token}"
    return headers


def _read_body(response: urllib3.BaseHTTPResponse) -> bytes:
    """The body of an answer that may be an acknowledgement; empty for any other answer.

    An empty body means "everything accepted", so a truncated body must not look empty.

    Raises:
        DeliveryError: the answer does not declare its end, or does not end.
        urllib3.exceptions.HTTPError: the body is truncated.
    """
    deadline = time.monotonic() + _ANSWER_SECONDS
    body = b""
    try:
        if response.status == 200:
            if response.length_remaining is None and not response.chunked:
                raise DeliveryError(
                    "expected an answer with a Content-Length or chunked encoding, found neither; "
                    "check for an HTTP/1.0 proxy in between"
                )
            while part := response.read1(_ANSWER_BYTES, decode_content=True):
                body += part
                if len(body) > _ANSWER_BYTES or time.monotonic() > deadline:
                    raise DeliveryError(
                        f"expected an answer of at most {_ANSWER_BYTES} bytes within {_ANSWER_SECONDS:g} s, "
                        f"found {len(body)} bytes and no end"
                    )
        return body
    finally:
        if not response.closed:
            response.close()
        response.release_conn()


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
