"""``on_failure: refuse``: what cannot be recorded does not happen, or is not answered."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from mlaudit.capture.web.asgi import AsgiMiddleware
from mlaudit.deliver.ticket import Ticket
from mlaudit.errors import AuditRefusedError, SpoolFullError
from mlaudit.testing import AuditLog, capture

REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
routes: [{methods: POST, path: /predict, kind: audit.ml.prediction}]
rules:
  - name: predictions
    match: {kind: audit.ml.prediction}
    level: metadata
    guarantee: durable
    on_failure: refuse
  - name: rest
    level: metadata
"""


class App:
    """Answers in one message or, with ``stream``, in several; runs ``before_end`` before the last one."""

    def __init__(self, *, stream: bool = False, before_end: Any = None) -> None:
        self.called = 0
        self._stream = stream
        self._before_end = before_end or (lambda: None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.called += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if self._stream:
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        self._before_end()
        await send({"type": "http.response.body", "body": b"result"})


@pytest.fixture
def log() -> Any:
    """Audit under a policy that refuses unrecorded predictions."""
    with capture(REFUSE, instrument=False) as running:
        yield running


def test_the_application_is_not_called_while_nothing_can_be_written(ask: Any, log: AuditLog) -> None:
    """503 with a problem document, and the model has not answered."""
    app = App()
    log.fail(SpoolFullError("full"))
    heard = ask(AsgiMiddleware(app), "POST", "/predict")
    assert (app.called, heard.status) == (0, 503)
    assert heard.headers[b"content-type"] == b"application/problem+json"
    assert b"result" not in heard.body
    assert log.pipeline.counts.refused == 1


def test_what_the_policy_lets_go_on_is_answered_meanwhile(ask: Any, log: AuditLog) -> None:
    """Another kind, under a rule that says continue, is not stopped by the same full spool."""
    log.fail(SpoolFullError("full"))
    heard = ask(AsgiMiddleware(App()), "POST", "/predict")
    assert heard.status == 503
    assert ask(AsgiMiddleware(App()), "PUT", "/predict").status == 503  # a model may answer on any route
    policy = REFUSE.replace(
        "kind: audit.ml.prediction}\n    level", "kind: audit.ml.config.changed}\n    level"
    )
    with capture(policy, instrument=False) as other:
        other.fail(SpoolFullError("full"))
        assert ask(AsgiMiddleware(App()), "GET", "/x").body == b"result"
        assert sum(other.pipeline.counts.lost.values()) == 1


def test_an_answer_whose_record_fails_becomes_a_503(ask: Any, log: AuditLog) -> None:
    """The result was computed, but the client does not get it."""
    app = App(before_end=lambda: log.fail(SpoolFullError("full")))
    heard = ask(AsgiMiddleware(app), "POST", "/predict")
    assert app.called == 1
    assert heard.status == 503
    assert b"result" not in heard.body
    assert heard.error is None
    assert log.pipeline.counts.refused == 1


def test_a_stream_whose_record_fails_is_broken_off(ask: Any, log: AuditLog) -> None:
    """What has begun cannot become a 503: the end is withheld and the server breaks the connection."""
    app = App(stream=True, before_end=lambda: log.fail(SpoolFullError("full")))
    heard = ask(AsgiMiddleware(app), "POST", "/predict")
    assert heard.body == b"part"
    assert not heard.complete
    assert isinstance(heard.error, AuditRefusedError)


def test_an_application_that_swallows_the_refusal_cannot_go_on_with_the_answer(
    ask: Any, log: AuditLog
) -> None:
    """Whatever it sends after a refusal stays here, and the connection is broken off all the same."""

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        log.fail(SpoolFullError("full"))
        for _ in range(2):
            with contextlib.suppress(AuditRefusedError):
                await send({"type": "http.response.body", "body": b"result"})

    heard = ask(AsgiMiddleware(stubborn), "POST", "/predict")
    assert heard.body == b"part"
    assert isinstance(heard.error, AuditRefusedError)


def test_a_streaming_endpoint_of_fastapi_is_broken_off(ask: Any, log: AuditLog) -> None:
    """The refusal finds its way out of the framework's task group."""
    app = FastAPI()

    @app.post("/predict")
    async def predict() -> StreamingResponse:
        def chunks() -> Any:
            yield b"a"
            log.fail(SpoolFullError("full"))
            yield b"b"

        return StreamingResponse(chunks())

    heard = ask(AsgiMiddleware(app), "POST", "/predict")
    assert not heard.complete
    assert heard.error is not None


@pytest.mark.parametrize(("policy", "status"), [(REFUSE, 503), (REFUSE.replace("refuse", "continue"), 200)])
def test_a_durable_record_that_the_disk_does_not_confirm(
    ask: Any, monkeypatch: pytest.MonkeyPatch, policy: str, status: int
) -> None:
    """The answer waits for the fsync; when it fails the policy decides what the client gets."""
    with capture(policy, instrument=False) as log:
        broken = Ticket()
        broken.settle(ok=False)
        monkeypatch.setattr(log, "append", lambda *_, **__: broken)
        assert ask(AsgiMiddleware(App()), "POST", "/predict").status == status


def test_an_answer_waits_for_the_disk_without_holding_up_the_event_loop(
    ask: Any, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one durable record waits for its fsync, another request of the same loop is answered."""
    slow = Ticket()

    async def run() -> None:
        monkeypatch.setattr(log, "append", lambda *_, **__: slow)
        waiting = asyncio.create_task(ask.send(AsgiMiddleware(App()), "POST", "/predict"))
        await asyncio.sleep(0)
        monkeypatch.undo()
        other = await ask.send(AsgiMiddleware(App()), "GET", "/x")
        assert other.body == b"result"
        assert not waiting.done()
        slow.settle(ok=True)
        assert (await waiting).body == b"result"

    asyncio.run(run())


def test_a_refusal_is_told_once_writing_works_again(ask: Any, log: AuditLog) -> None:
    """The trail says later that requests were turned away."""
    log.fail(SpoolFullError("full"))
    ask(AsgiMiddleware(App()), "POST", "/predict")
    log.heal()
    log.pipeline.close("test", 0.0)
    (record,) = log.of("audit.pipeline.failure")
    assert record["audit.lost.reason"].startswith("refused audit.ml.prediction")
