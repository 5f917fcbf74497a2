"""A fault of ours never reaches the service: each hook is broken on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from mlaudit.capture.web import asgi, asgi_exchange, http_exchange
from mlaudit.capture.web.asgi import AsgiMiddleware
from mlaudit.testing import AuditLog, capture


class BrokenError(Exception):
    """What a bug of ours would raise."""


def broken(*_: object, **__: object) -> Any:
    """Stands in for any function of ours."""
    raise BrokenError("with secret data")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the request and answers in two parts."""
    await receive()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"cd"})


@pytest.fixture
def log() -> Any:
    """Audit under the built-in policy."""
    with capture(instrument=False) as running:
        yield running


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (asgi, "Exchange"),
        (http_exchange, "Body"),
        (asgi_exchange, "route_of"),
        (http_exchange, "kind_of"),
        (http_exchange, "find_actor"),
        (http_exchange, "event_of"),
        (http_exchange, "trace_ids"),
        (asgi_exchange, "trace"),
    ],
)
def test_a_broken_part_costs_the_client_nothing_and_is_told(
    ask: Any, log: AuditLog, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    """The answer arrives whole, and the trail says which component failed, without the data it failed on."""
    monkeypatch.setattr(module, name, broken)
    heard = ask(AsgiMiddleware(app), "POST", "/predict", body=b"1")
    assert (heard.status, heard.body, heard.error) == (201, b"abcd", None)
    assert log.pipeline.counts.faults >= 1
    recorded = [record for record in log.records if "asgi" in record.get("audit.failure.reason", "")]
    assert recorded
    assert "secret data" not in str(log.records)


@pytest.mark.parametrize("name", ["find_actor", "event_of", "kind_of", "route_of"])
def test_a_request_that_could_not_be_described_is_recorded_as_failed_audit(
    ask: Any, log: AuditLog, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The event itself is not lost: its kind, method and status are there, marked as incomplete."""
    monkeypatch.setattr(asgi_exchange if name == "route_of" else http_exchange, name, broken)
    ask(AsgiMiddleware(app), "POST", "/predict")
    (record,) = log.of("audit.ml.prediction")
    assert record["audit.failed"] is True
    assert record["http.response.status_code"] == 201
    assert record["event.outcome"] == "success"


def test_a_broken_policy_lookup_lets_the_request_through(
    ask: Any, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When even the kind cannot be asked, the request goes on and the trail says so."""
    monkeypatch.setattr(log.pipeline.policy, "route_kind", broken)
    heard = ask(AsgiMiddleware(app))
    assert heard.body == b"abcd"
    assert log.of("audit.pipeline.failure")[0]["audit.component"] == "asgi"


def test_headers_that_are_no_headers_do_no_harm(ask: Any, log: AuditLog) -> None:
    """A response whose length is no number is passed on as it is."""

    async def odd(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"many")]})
        await send({"type": "http.response.body", "body": b"x"})

    heard = ask(AsgiMiddleware(odd))
    assert heard.headers == {b"content-length": b"many"}
    assert log.kinds().count("audit.api.request") == 1


def test_a_scope_without_headers_is_passed_on(ask: Any, log: AuditLog) -> None:
    """An incomplete scope is the server's business, not a reason to fail."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    assert ask(AsgiMiddleware(bare), headers=()).body == b"x"
    assert ask(AsgiMiddleware(bare), client=None, state=None).body == b"x"
    assert ask(AsgiMiddleware(bare), client=("unix", None)).body == b"x"
    assert log.kinds() == ["audit.api.request"] * 3
