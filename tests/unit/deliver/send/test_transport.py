from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from tests.unit.deliver.receiver import partial

from mlaudit.deliver.send import transport
from mlaudit.deliver.send.answer import Verdict
from mlaudit.deliver.send.transport import HttpTransport, Receiver
from mlaudit.settings import Settings

OTLP = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
PARTIAL = partial(1)[2]


class RawReceiver:
    """Answers every request with given bytes and closes the connection."""

    def __init__(self) -> None:
        self.answer: Iterator[bytes] = iter(())
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}/v1/logs"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                client.settimeout(10)
                client.recv(1 << 16)
                try:
                    for part in self.answer:
                        client.sendall(part)
                    # Unread bytes of the request would turn the close into a reset, and lose the answer.
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(1 << 16):
                        pass
                except OSError:
                    continue

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def raw() -> Iterator[RawReceiver]:
    """A receiver of which a test writes every byte."""
    receiver = RawReceiver()
    yield receiver
    receiver.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OTLP + b"Content-Length: 0\r\n\r\n", id="with a length"),
        pytest.param(OTLP + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="in chunks"),
    ],
)
def test_answer_with_an_end_is_an_acknowledgement(raw: RawReceiver, answer: bytes) -> None:
    """An empty message means that everything was accepted, if the answer declares its end."""
    raw.answer = iter([answer])
    assert HttpTransport(Receiver(raw.endpoint)).post(b"x").verdict is Verdict.ACKNOWLEDGED


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OTLP + b"Connection: close\r\n\r\n", id="no length"),
        pytest.param(OTLP + b"Content-Length: %d\r\n\r\n" % len(PARTIAL), id="body missing"),
        pytest.param(OTLP + b"Content-Length: %d\r\n\r\n%b" % (len(PARTIAL), PARTIAL[:1]), id="body cut"),
        pytest.param(OTLP + b"Transfer-Encoding: chunked\r\n\r\n", id="chunks missing"),
        pytest.param(OTLP[:40], id="head cut"),
    ],
)
def test_answer_that_is_cut_off_is_no_acknowledgement(raw: RawReceiver, answer: bytes) -> None:
    """A partial success with a truncated body is not taken for an empty one."""
    raw.answer = iter([answer])
    assert HttpTransport(Receiver(raw.endpoint)).post(b"x").verdict is Verdict.RETRY


def test_answer_that_does_not_end_is_given_up(raw: RawReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that sends its answer very slowly cannot block the sender forever."""
    monkeypatch.setattr(transport, "_ANSWER_SECONDS", 0.2)
    waiting = threading.Event()

    def drip() -> Iterator[bytes]:
        yield OTLP + b"Content-Length: 100000\r\n\r\n"
        while not waiting.wait(0.02):
            yield b"\n"

    raw.answer = drip()
    answer = HttpTransport(Receiver(raw.endpoint)).post(b"x")
    waiting.set()
    assert answer.verdict is Verdict.RETRY
    assert "no end" in answer.reason


def test_answer_beyond_the_limit_is_given_up(raw: RawReceiver) -> None:
    """A very long answer is not read into memory."""
    raw.answer = iter([OTLP + b"Content-Length: 100000000\r\n\r\n", *(b"x" * 100_000 for _ in range(30))])
    answer = HttpTransport(Receiver(raw.endpoint)).post(b"x")
    assert answer.verdict is Verdict.RETRY
    assert "no end" in answer.reason


def test_connection_is_kept_between_requests(receiver) -> None:
    """One connection carries many requests."""
    sending = HttpTransport(Receiver(receiver.endpoint))
    for _ in range(3):
        assert sending.post(b"").verdict is Verdict.ACKNOWLEDGED
    assert sending._pool.connection_from_url(receiver.endpoint).num_connections == 1


def test_decoded_headers_reach_the_receiver(receiver) -> None:
    """A URL-encoded header of the variable arrives decoded at the receiver."""
    env = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,x-team=caf%C3%A9"}
    sending = HttpTransport(Receiver(receiver.endpoint, Settings.from_env(env).headers))
    assert sending.post(b"").verdict is Verdict.ACKNOWLEDGED
    assert receiver.headers[0]["authorization"] == "Bearer x"
    assert receiver.headers[0]["x-team"] == "caf\u00e9"
