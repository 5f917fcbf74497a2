from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from tests.unit.deliver.receiver import PROTOBUF, TAKEN, Receiver, Reply, partial

from mlaudit.deliver.send.otlp import Envelope, log_record
from mlaudit.deliver.send.sender import Sender
from mlaudit.deliver.send.transport import HttpTransport
from mlaudit.deliver.send.transport import Receiver as Where
from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.spool import StreamSpool

POISON = "poison"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[StreamSpool]:
    """An empty spool."""
    opened = StreamSpool.create(tmp_path / "spool", "s", 1 << 30)
    yield opened
    opened.close(remove=False)


def put(spool: StreamSpool, *bodies: str) -> None:
    """Appends one record per body."""
    for body in bodies:
        payload = log_record(time=1, severity=9, event_name="audit.x", body=body.encode(), attributes=b"")
        spool.append(spool.last_sequence + 1, sha256(body.encode()).digest(), payload, durable=False)
    spool.sync()


def sender(spool: StreamSpool, receiver: Receiver, where: Where | None = None, **more: object) -> Sender:
    """A sender to the scripted receiver."""
    transport = HttpTransport(where or Where(receiver.endpoint))
    return Sender(spool, transport, Envelope({"service.name": "t"}, "mlaudit", "0"), **more)  # type: ignore[arg-type]


def bodies(records: list[LogRecord]) -> list[str]:
    """The bodies of records."""
    return [record.body.string_value for record in records]


def finish(sending: Sender, seconds: float = 20.0) -> bool:
    """Sends everything in the spool, for at most ``seconds``."""
    sending.start()
    return sending.stop(time.monotonic() + seconds)


def test_everything_arrives_in_order(spool: StreamSpool, receiver: Receiver) -> None:
    """All records arrive once and in order, under the sender's resource and scope."""
    expected = [str(number) for number in range(5000)]
    put(spool, *expected)
    assert finish(sender(spool, receiver))
    assert bodies(receiver.taken) == expected
    (resource_logs,) = receiver.requests[0].resource_logs
    assert resource_logs.scope_logs[0].scope.name == "mlaudit"


@pytest.mark.parametrize(
    "reply",
    [
        (503, {}, b""),
        (429, {"retry-after": "0"}, b""),
        (500, {}, b"oops"),
        (304, {}, b""),
        (200, {"content-type": "text/html"}, b"<html>"),
        (200, PROTOBUF, b"\xff\xff"),
        (204, {}, b""),
        (404, {}, b""),
        (401, {}, b""),
    ],
)
def test_no_record_leaves_without_acknowledgement(
    spool: StreamSpool, receiver: Receiver, reply: Reply
) -> None:
    """After any other answer the records stay and are sent again until the receiver accepts them."""
    answers = iter([reply, reply])
    receiver.script = lambda records, headers: next(answers, TAKEN)
    put(spool, "a", "b")
    sending = sender(spool, receiver)
    sending.start()
    receiver.wait_for(lambda r: len(r.taken) == 2)
    assert sending.stop(time.monotonic() + 10)
    assert bodies(receiver.taken) == ["a", "b"]
    assert len(receiver.requests) == 3
    assert sending.counts.failures == 2


def test_receiver_that_is_away_loses_nothing(spool: StreamSpool, receiver: Receiver) -> None:
    """Without a receiver the records stay; the next sender delivers them."""
    put(spool, "a")
    assert not finish(sender(spool, receiver, Where("http://127.0.0.1:9/v1/logs")), 0.5)
    assert spool.unacknowledged
    assert finish(sender(spool, receiver))
    assert bodies(receiver.taken) == ["a"]


@pytest.mark.parametrize("status", [400, 413, 200])
def test_poison_is_found_and_set_aside(spool: StreamSpool, receiver: Receiver, status: int) -> None:
    """A record that the receiver rejects for its content is quarantined and reported; the others arrive."""

    def script(records: list[LogRecord], headers: dict[str, str]) -> Reply:
        bad = sum(body == POISON for body in bodies(records))
        if not bad:
            return TAKEN
        return partial(bad) if status == 200 else (status, {}, b"")

    receiver.script = script
    told: list[tuple[int, str]] = []
    put(spool, *(str(n) for n in range(37)), POISON, *(str(n) for n in range(37, 50)))
    assert finish(sender(spool, receiver, on_quarantined=lambda count, reason: told.append((count, reason))))
    assert sorted(bodies(receiver.taken), key=int) == [str(n) for n in range(50)]
    (kept,) = layout.quarantine_folder(spool.folder).glob("*.otlp")
    assert LogRecord.FromString(kept.read_bytes()).body.string_value == POISON
    assert [count for count, _ in told] == [1]


def test_receiver_that_refuses_everything_empties_no_spool(spool: StreamSpool, receiver: Receiver) -> None:
    """When every record is rejected, the receiver is considered faulty and all records stay."""
    receiver.script = lambda records, headers: (400, {}, b"")
    put(spool, "a", "b", "c")
    assert not finish(sender(spool, receiver), 1.0)
    assert spool.unacknowledged
    assert not layout.quarantine_folder(spool.folder).exists()


def test_token_is_read_again_after_401(spool: StreamSpool, receiver: Receiver, tmp_path: Path) -> None:
    """A token that was renewed in its file is used after the receiver refused the old one."""
    token = tmp_path / "token"
    token.write_text("old\n")

    def script(records: list[LogRecord], headers: dict[str, str]) -> Reply:
        if headers.get("authorization") == "Bearer new":
            return TAKEN
        token.write_text("new\n")
        return 401, {}, b""

    receiver.script = script
    put(spool, "a")
    assert finish(sender(spool, receiver, Where(receiver.endpoint, token_file=token)))
    assert bodies(receiver.taken) == ["a"]
    assert receiver.headers[0]["authorization"] == "Bearer old"


def test_missing_token_keeps_the_records(spool: StreamSpool, receiver: Receiver, tmp_path: Path) -> None:
    """Without its token nothing is sent, and the reason names the file."""
    put(spool, "a")
    sending = sender(spool, receiver, Where(receiver.endpoint, token_file=tmp_path / "absent"))
    assert not finish(sending, 0.5)
    assert not receiver.requests
    assert "absent" in sending.counts.last_failure


def test_records_that_keep_coming_are_sent_together(spool: StreamSpool, receiver: Receiver) -> None:
    """A record that arrives while others are sent waits for the next round instead of a request of its own."""

    def one_more(records: list[LogRecord], headers: dict[str, str]) -> Reply:
        put(spool, "later")
        return TAKEN

    receiver.script = one_more
    put(spool, "1", "2")
    sending = sender(spool, receiver)
    assert sending.drain()
    assert bodies(receiver.taken) == ["1", "2"]
    receiver.script = lambda records, headers: TAKEN
    assert sending.drain()
    assert bodies(receiver.taken) == ["1", "2", "later"]


def test_a_disk_that_fails_for_a_while_does_not_end_the_sending(
    spool: StreamSpool, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an acknowledgement cannot be noted, nothing is sent twice, and it is noted later."""
    from mlaudit.deliver.spool import files

    real = files.write_ack
    failures = iter([OSError(5, "Input/output error")])

    def fail_once(descriptor: int, ack: files.Ack) -> None:
        if error := next(failures, None):
            raise error
        real(descriptor, ack)

    monkeypatch.setattr(files, "write_ack", fail_once)
    put(spool, "a")
    sending = sender(spool, receiver)
    assert finish(sending)
    assert files.read_ack(spool.folder) is None
    spool.close(remove=False)
    assert bodies(receiver.taken) == ["a"]
    noted = files.read_ack(spool.folder)
    assert noted is not None
    assert noted.sequence == 1


def test_a_refusal_that_is_not_repeated_sets_nothing_aside(spool: StreamSpool, receiver: Receiver) -> None:
    """A record that is rejected once and accepted when it is sent again, alone, arrives like the others."""
    refusals = 0

    def script(records: list[LogRecord], headers: dict[str, str]) -> Reply:
        nonlocal refusals
        if POISON in bodies(records) and refusals < 2:
            refusals += 1
            return 400, {}, b""
        return TAKEN

    receiver.script = script
    put(spool, "a", POISON)
    assert finish(sender(spool, receiver))
    assert sorted(bodies(receiver.taken)) == ["a", POISON]
    assert refusals == 2
    assert not layout.quarantine_folder(spool.folder).exists()


def test_no_request_comes_before_the_receiver_asked_for_it(spool: StreamSpool, receiver: Receiver) -> None:
    """Retry-After is a minimum: the jitter that spreads senders is added to it."""
    times: list[float] = []

    def script(records: list[LogRecord], headers: dict[str, str]) -> Reply:
        times.append(time.monotonic())
        return (429, {"retry-after": "1"}, b"") if len(times) == 1 else TAKEN

    receiver.script = script
    put(spool, "a")
    assert finish(sender(spool, receiver))
    assert times[1] - times[0] >= 1.0
