"""An audited ASGI application and the same one without audit: both receive and send the same, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.fuzz.choices import Choices
from tests.fuzz.targets.encode import audit_log, forget_records

from mlaudit.capture.web.asgi import MARK, AsgiMiddleware

_PATHS = ("/predict", "/config/a", "/health", "/", "/login", "/x" * 700)
_HEADERS = (
    (b"authorization", b"Basic YWxpY2U6c2VjcmV0"), (b"authorization", b"Basic !!!"), (b"content-type",
    b"application/json"), (b"content-encoding", b"gzip"),
    (b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"), (b"user-agent", b"\xff\x00\x1b[31m"),
    (b"host", b"[::1"), (b"x-api-key", b"k"),
    (b"x-request-id", b"\r\naudit forged"), (b"content-length", b"-5"), (b"Content-Length", b"x"), (b"", b""),
)  # fmt: skip
_BODIES = (b"", b"{}", b'{"rows":[[1]]}', b"\xff" * 10, b"[" * 2000, b"x" * 70_000, None)


class AppError(Exception):
    """What the application raises."""


@dataclass
class Seen:
    """The messages in and out of an application."""

    received: list[Any] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)
    raised: str = ""
    state: Any = None


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def run(data: bytes) -> None:
    """Plays one exchange twice and compares."""
    choices = Choices(data)
    scope = _scope(choices)
    incoming = [_request(choices) for _ in choices.some(4)]
    script = [_step(choices) for _ in choices.some(8)]
    breaks_at = choices.below(8) if choices.seldom() else -1
    plain = _play(False, deepcopy(scope), deepcopy(incoming), deepcopy(script), breaks_at)
    log = audit_log()
    forget_records(log)
    counts = log.pipeline.counts
    before = counts.faults + sum(counts.lost.values())
    audited = _play(True, deepcopy(scope), deepcopy(incoming), deepcopy(script), breaks_at)
    faults = counts.faults + sum(counts.lost.values()) - before
    assert audited.received == plain.received, "the application saw something else"
    assert audited.raised == plain.raised, f"{plain.raised!r} became {audited.raised!r}"
    _compare_sent(plain.sent, audited.sent)
    if scope.get("type") != "http":
        return
    made = [kind for kind in log.kinds() if kind != "audit.pipeline.failure"]
    assert len(made) <= 1, made
    unaudited = scope.get("path") == "/health"
    assert made or faults or unaudited, "no record, and nothing counted"


def _compare_sent(plain: list[Any], audited: list[Any]) -> None:
    if audited == plain:
        return
    # A response start without a following message was held back: its status could still have been changed.
    held = [message for message in plain if not _is_start(message)]
    assert [message for message in audited if not _is_start(message)] == held
    assert len(plain) - len(audited) >= 0
    last = [index for index, message in enumerate(plain) if _is_start(message)][-1]
    assert not any(_is_body(message) for message in plain[last:]), (plain, audited)


def _is_start(message: Any) -> bool:
    return isinstance(message, dict) and message.get("type") == "http.response.start"


def _is_body(message: Any) -> bool:
    return isinstance(message, dict) and str(message.get("type")).startswith("http.response.body")


def _play(audited: bool, scope: Any, incoming: list[Any], script: list[Any], breaks_at: int) -> Seen:
    seen = Seen()

    async def receive() -> Any:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if len(seen.sent) == breaks_at:
            raise OSError("the client is gone")
        seen.sent.append(deepcopy(message))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for what, value in script:
            if what == "receive":
                seen.received.append(deepcopy(await receive()))
            elif what == "send":
                await send(value)
            elif what == "raise":
                raise value
            elif what == "swallow":
                try:
                    await send(value)
                except OSError:
                    continue
            else:
                scope[what] = value

    async def play() -> None:
        target = AsgiMiddleware(app) if audited else app
        await asyncio.wait_for(target(scope, receive, send), 10)

    try:
        _loop().run_until_complete(play())
    except BaseException as error:  # noqa: BLE001 - the raised exception is compared
        seen.raised = f"{type(error).__name__}: {error}"
    if isinstance(scope, MutableMapping):
        scope.pop(MARK, None)
    return seen


def _scope(choices: Choices) -> dict[str, Any]:
    path = choices.pick(_PATHS) if choices.below(4) else choices.text()
    scope: dict[str, Any] = {
        "type": choices.pick(("http", "http", "http", "http", "websocket", "lifespan", "other")),
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": choices.pick(("GET", "POST", "PUT", "HEAD", "DELETE", choices.text())),
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": choices.bytes(choices.below(60)),
        "scheme": "http",
        "root_path": "",
        "headers": [_header(choices) for _ in choices.some(5)],
        "client": choices.pick(
            (None, ("192.0.2.7", 4711), ("testclient", 0), ("::1", None), (choices.text(), choices.integer()))
        ),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    if choices.seldom():
        scope.pop(choices.pick(("headers", "path", "method", "client", "query_string", "root_path")))
    if choices.seldom():
        scope[choices.pick(("headers", "path", "method", "client", "query_string", "scheme"))] = choices.json(
            2
        )
    return scope


def _header(choices: Choices) -> tuple[bytes, bytes]:
    if choices.often():
        return choices.pick(_HEADERS)
    return choices.bytes(choices.below(20)).lower(), choices.bytes(choices.below(40))


def _request(choices: Choices) -> Any:
    if choices.seldom():
        return {"type": choices.text(), "body": choices.json(1)}
    if choices.seldom():
        return {"type": "http.disconnect"}
    message: dict[str, Any] = {"type": "http.request", "more_body": choices.often()}
    body = choices.pick(_BODIES) if choices.often() else choices.bytes(choices.below(100))
    if body is not None:
        message["body"] = body
    return message


def _step(choices: Choices) -> tuple[str, Any]:
    way = choices.below(16)
    if way < 4:
        return "receive", None
    if way < 7:
        headers = [_header(choices) for _ in choices.some(3)]
        status = choices.pick((200, 204, 304, 401, 403, 404, 500, 503, choices.integer()))
        return "send", {"type": "http.response.start", "status": status, "headers": headers}
    if way < 12:
        body = choices.pick(_BODIES) or choices.bytes(choices.below(50))
        return choices.pick(("send", "send", "send", "swallow")), {
            "type": "http.response.body",
            "body": body,
            "more_body": choices.often(),
        }
    if way == 12:
        return "raise", choices.pick(
            (
                AppError("of the application"),
                ValueError(choices.text()),
                KeyError("x"),
                asyncio.CancelledError(),
            )
        )
    if way == 13:
        return "send", choices.pick(
            (
                {"type": choices.text()},
                {"type": "http.response.pathsend", "path": "/x"},
                {"type": "http.response.trailers", "headers": []},
                {"type": "http.response.start"},
                {"type": "http.response.body", "body": choices.json(1)},
                {"type": "http.response.start", "status": "x", "headers": choices.json(2)},
                {"type": "websocket.send", "text": "x"},
                {"type": "lifespan.startup.complete"},
            )
        )
    if way == 14:
        return choices.pick(("user", "state", "route", "auth", "endpoint", "fastapi")), choices.pick(
            ({"user": choices.text()}, {"user": {"id": choices.json(1)}}, choices.text(), object(), None)
        )
    return "send", {"type": "http.response.body"}
