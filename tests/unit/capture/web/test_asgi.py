"""One record for each request, whatever becomes of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Response, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route

from mlaudit.capture.request_context import ModelUse, current_request, open_trail
from mlaudit.capture.web.asgi import AsgiMiddleware
from mlaudit.capture.web.starlette import StarletteIntegration
from mlaudit.testing import AuditLog, capture

FULL = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
rules:
  - name: everything
    level: full
"""

_JSON = [(b"content-type", b"application/json")]


def answering(*chunks: bytes, status: int = 200, headers: Any = (), length: bool = True) -> Any:
    """An application that reads its request and answers with these chunks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        sized = [(b"content-length", str(sum(map(len, chunks))).encode())] if length else []
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *sized]})
        for index, chunk in enumerate(chunks or (b"",)):
            await send(
                {"type": "http.response.body", "body": chunk, "more_body": index < len(chunks) - 1},
            )

    return AsgiMiddleware(app)


def only(log: AuditLog) -> dict[str, Any]:
    """The one record that a request left."""
    (record,) = [r for r in log.records if not r["audit.kind"].startswith(("audit.stream", "audit.policy"))]
    return record


@pytest.fixture
def log() -> Any:
    """Audit under the built-in policy, without any library hook."""
    with capture(instrument=False) as running:
        yield running


def test_a_request_becomes_one_record_that_says_what_was_asked_and_answered(ask: Any, log: AuditLog) -> None:
    """Method, path, status, sizes, digests, duration, client and user agent are in the record."""
    app = answering(b'{"ok":', b"true}")
    heard = ask(
        app,
        "POST",
        "/things",
        body=[b"ab", b"c"],
        query=b"page=2&password=hunter2",
        headers=[("User-Agent", "curl/8"), ("Host", "models.example.org:8443"), ("X-Request-ID", "r-1")],
    )
    record = only(log)
    assert heard.body == b'{"ok":true}'
    assert record["audit.kind"] == "audit.api.request"
    assert record["event.outcome"] == "success"
    assert record["http.request.method"] == "POST"
    assert record["url.path"] == "/things"
    assert record["url.query"] == "page=2&password=[removed]"
    assert record["url.domain"] == "models.example.org"
    assert record["http.response.status_code"] == 200
    assert record["http.request.body.bytes"] == 3
    assert record["http.request.body.hash.sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert record["http.response.body.bytes"] == 11
    assert record["http.response.body.hash.sha256"] == hashlib.sha256(b'{"ok":true}').hexdigest()
    assert record["http.request.id"] == "r-1"
    assert record["user_agent.original"] == "curl/8"
    assert record["source.ip"] == "198.51.100.0"
    assert record["event.duration"] > 0
    assert "http.request.body.content" not in record


def test_the_record_exists_before_the_client_has_the_end_of_the_answer(ask: Any, log: AuditLog) -> None:
    """When the last message goes out, the record is stored; when the first goes out, nothing was answered yet."""
    seen: list[tuple[str, int]] = []
    ask.on_message = lambda message: seen.append((message["type"], len(log.of("audit.api.request"))))
    ask(answering(b"whole"))
    assert seen == [("http.response.start", 1), ("http.response.body", 1)]


def test_a_stream_passes_through_and_only_its_end_waits_for_the_record(ask: Any, log: AuditLog) -> None:
    """Chunks of a stream go out at once, the last one after the record."""
    seen: list[tuple[Any, int]] = []
    ask.on_message = lambda message: seen.append((message.get("body"), len(log.of("audit.api.request"))))
    ask(answering(b"a", b"b", b"", length=False))
    assert seen == [(None, 0), (b"a", 0), (b"b", 0), (b"", 1)]


def test_a_stream_of_known_length_ends_with_its_last_byte(ask: Any, log: AuditLog) -> None:
    """A client that counts has the whole answer before the empty last message: the record comes before that."""
    seen: list[tuple[Any, int]] = []
    ask.on_message = lambda message: seen.append((message.get("body"), len(log.of("audit.api.request"))))
    ask(answering(b"aa", b"bb", b""))
    assert seen == [(None, 0), (b"aa", 0), (b"bb", 1), (b"", 1)]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("DELETE", 204)])
def test_an_answer_without_a_body_is_recorded_before_its_headers_go_out(
    ask: Any, log: AuditLog, method: str, status: int
) -> None:
    """HEAD, 204 and 304 are complete with their headers."""
    seen: list[int] = []
    ask.on_message = lambda _: seen.append(len(log.of("audit.api.request")))
    ask(answering(b"", status=status), method)
    assert seen[0] == 1
    assert only(log)["event.outcome"] == "success"
    assert "http.response.body.bytes" not in only(log)


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (200, "audit.ml.prediction", "success"),
        (302, "audit.ml.prediction", "success"),
        (401, "audit.access.authentication.failed", "failure"),
        (403, "audit.access.denied", "failure"),
        (422, "audit.ml.prediction", "failure"),
        (500, "audit.ml.prediction", "failure"),
    ],
)
def test_a_refused_prediction_is_an_access_event(
    ask: Any, log: AuditLog, status: int, kind: str, outcome: str
) -> None:
    """401 and 403 turn what was asked for into an access event that names it; other failures keep the kind."""
    ask(answering(b"x", status=status), "POST", "/predict")
    record = only(log)
    assert record["audit.kind"] == kind
    assert record["event.outcome"] == outcome
    if kind.startswith("audit.access"):
        assert record["event.reason"] == "the request asked for audit.ml.prediction"


def test_a_path_that_the_policy_leaves_out_leaves_no_trace(ask: Any, log: AuditLog) -> None:
    """A health check is answered and not recorded."""
    assert ask(answering(b"ok"), "GET", "/health").body == b"ok"
    assert log.kinds() == []


def test_without_a_pipeline_the_application_runs_as_if_we_were_not_there(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With auditing off the messages are the application's own."""
    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    heard = ask(answering(b"a", b"b"))
    assert [message["type"] for message in heard.messages] == [
        "http.response.start",
        "http.response.body",
        "http.response.body",
    ]


def test_an_exception_of_a_bare_application_is_a_failed_request(ask: Any, log: AuditLog) -> None:
    """What escapes reaches the server unchanged, and the record names its class and the 500 to come."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("secret detail")

    heard = ask(AsgiMiddleware(app))
    record = only(log)
    assert isinstance(heard.error, LookupError)
    assert record["event.outcome"] == "failure"
    assert record["error.type"] == "LookupError"
    assert record["http.response.status_code"] == 500
    assert "secret detail" not in json.dumps(record)


def test_an_exception_that_a_framework_answers_is_named_in_the_record(ask: Any, log: AuditLog) -> None:
    """The record of a 500 says which exception it was, though the framework raises it only after the answer."""
    app = FastAPI()

    @app.get("/boom")
    async def boom() -> None:
        raise ZeroDivisionError

    ask(AsgiMiddleware(app), "GET", "/boom")
    assert only(log)["error.type"] == "ZeroDivisionError"
    assert only(log)["http.route"] == "/boom"


def test_an_exception_in_the_middle_of_a_stream_is_a_failure_with_the_status_that_went_out(
    ask: Any, log: AuditLog
) -> None:
    """The client saw 200 and a broken stream: the record says both."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise OSError

    ask(AsgiMiddleware(app))
    record = only(log)
    assert (record["http.response.status_code"], record["event.outcome"]) == (200, "failure")
    assert record["error.type"] == "OSError"
    assert record["http.response.body.bytes"] == 4


def test_an_application_that_answers_nothing_is_a_failed_request(ask: Any, log: AuditLog) -> None:
    """Returning without an answer is recorded as such."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    ask(AsgiMiddleware(app))
    assert only(log)["event.outcome"] == "failure"
    assert only(log)["event.reason"] == "the application returned without a complete response"


def test_a_client_that_goes_away_leaves_a_record_of_unknown_outcome(ask: Any, log: AuditLog) -> None:
    """Nobody knows what a client saw that disconnected before the end."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    ask(AsgiMiddleware(app))
    assert only(log)["event.outcome"] == "unknown"
    assert "disconnected" in only(log)["event.reason"]


def test_a_cancelled_request_leaves_one_record(ask: Any, log: AuditLog) -> None:
    """Cancellation goes on to the server, with a record of unknown outcome behind it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["reached"].set()
        await asyncio.Event().wait()

    async def run() -> Any:
        reached = asyncio.Event()
        task = asyncio.create_task(ask.send(AsgiMiddleware(app), reached=reached))
        await reached.wait()
        task.cancel()
        return await task

    assert isinstance(asyncio.run(run()).error, asyncio.CancelledError)
    assert only(log)["event.outcome"] == "unknown"
    assert only(log)["event.reason"] == "the request was cancelled"


def test_a_background_task_runs_after_the_record_and_sees_no_open_request(ask: Any, log: AuditLog) -> None:
    """What a background task does is no part of the request any more."""
    seen: list[Any] = []
    app = FastAPI()

    @app.get("/")
    def index(background: BackgroundTasks) -> str:
        background.add_task(lambda: seen.append((open_trail(), len(log.of("audit.api.request")))))
        return "ok"

    ask(AsgiMiddleware(app))
    assert seen == [(None, 1)]


def test_a_model_that_answers_in_a_thread_joins_the_record_of_its_request(ask: Any, log: AuditLog) -> None:
    """A synchronous endpoint runs in a thread: what its model leaves in the trail is still found."""
    app = FastAPI()

    @app.get("/ask")
    def answer() -> int:
        trail = open_trail()
        assert trail is not None
        trail.models.append(
            ModelUse(
                "churn", "3", "sklearn.Pipeline", "scikit-learn", "1.9", "d" * 64, "predict", 2, 4, "i", "o"
            )
        )
        return 1

    ask(AsgiMiddleware(app), "GET", "/ask")
    record = only(log)
    assert record["audit.kind"] == "audit.ml.prediction"
    assert record["audit.target.id"] == "churn@3"
    assert record["ml.model.digest"] == "d" * 64
    assert (record["ml.prediction.rows"], record["ml.prediction.features"]) == (2, 4)
    assert record["ml.prediction.batch"] is True
    assert current_request.get() is None


def test_several_models_are_all_named(ask: Any, log: AuditLog) -> None:
    """The last one that answered is the model of the record, the others are listed with it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        trail = open_trail()
        assert trail is not None
        trail.models += [ModelUse("filter"), ModelUse("ranker"), ModelUse("filter")]
        await answering(b"x").app(scope, receive, send)

    ask(AsgiMiddleware(app))
    assert only(log)["ml.models"] == ["filter", "ranker"]
    assert only(log)["ml.model.name"] == "filter"


def test_the_route_is_the_template_with_every_prefix(ask: Any, log: AuditLog) -> None:
    """Nested routers and mounts are part of the route."""
    inner, middle, app, mounted = APIRouter(), APIRouter(), FastAPI(), FastAPI()

    @inner.get("/items/{number}")
    def item(number: int) -> int:
        return number

    mounted.include_router(inner, prefix="/inner")
    middle.include_router(inner, prefix="/b")
    app.include_router(middle, prefix="/a")
    app.mount("/sub", mounted)
    for path in ("/a/b/items/1", "/sub/inner/items/2", "/nowhere"):
        ask(AsgiMiddleware(app), "GET", path)
    assert [record.get("http.route") for record in log.of("audit.api.request")] == [
        "/a/b/items/{number}",
        "/sub/inner/items/{number}",
        None,
    ]


def test_the_route_of_plain_starlette_is_its_template(ask: Any, log: AuditLog) -> None:
    """Starlette's own routes and mounts are read the same way."""
    leaf = Route("/x/{name}", lambda request: PlainTextResponse("x"))
    app = Starlette(routes=[Mount("/m", routes=[leaf]), Route("/go", lambda request: RedirectResponse("/"))])
    integration = StarletteIntegration()
    integration.instrument()
    try:
        ask(app, "GET", "/m/x/1")
        ask(app, "GET", "/go")
    finally:
        integration.uninstrument()
    assert [record["http.route"] for record in log.of("audit.api.request")] == ["/m/x/{name}", "/go"]


def test_a_route_template_of_the_policy_gives_the_kind(ask: Any) -> None:
    """A policy may name a route by its template; the decision is then about the template as well."""
    policy = FULL + "routes: [{methods: GET, path: '/models/{name}', kind: audit.ml.model.loaded}]\n"
    app = FastAPI()

    @app.get("/models/{name}")
    def model(name: str) -> str:
        return name

    with capture(policy, instrument=False) as log:
        ask(AsgiMiddleware(app), "GET", "/models/a")
        assert only(log)["audit.kind"] == "audit.ml.model.loaded"


def test_an_application_inside_an_application_is_recorded_once(ask: Any, log: AuditLog) -> None:
    """Two middlewares around one request make one record."""
    ask(AsgiMiddleware(answering(b"x")))
    only(log)


def test_websockets_and_unknown_protocols_pass_through_untouched(ask: Any, log: AuditLog) -> None:
    """What is not HTTP reaches the application with the server's own receive and send."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    for kind in ("websocket", "webtransport"):
        scope = {"type": kind}
        asyncio.run(AsgiMiddleware(app)(scope, receive, send))
        assert seen.pop() == ({"type": kind}, receive, send)
    assert log.kinds() == []


def test_a_websocket_of_fastapi_works(log: AuditLog) -> None:
    """A chat over a websocket is neither disturbed nor recorded."""
    from fastapi.testclient import TestClient

    app = FastAPI()

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()

    client = TestClient(AsgiMiddleware(app))
    with client.websocket_connect("/ws") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "HELLO"
    assert log.kinds() == []


def test_contents_are_recorded_where_the_level_asks_and_without_their_secrets(ask: Any) -> None:
    """Level full keeps request and response as JSON text; values under secret-looking keys are gone."""
    app = answering(b'{"label":1,"access_token":"t0p"}', headers=_JSON)
    body = b'{"rows":[[1,2]],"login":{"password":"hunter2"}}'
    with capture(FULL, instrument=False) as log:
        ask(app, "POST", "/predict", body=[body[:9], body[9:]])
        record = only(log)
    assert json.loads(record["http.request.body.content"]) == {"rows": [[1, 2]], "login": {}}
    assert json.loads(record["http.response.body.content"]) == {"label": 1}
    assert record["http.request.body.hash.sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (
            b"\x00\xff\xfe",
            [("content-type", "application/octet-stream")],
            "not JSON (application/octet-stream)",
        ),
        (b"password=hunter2", [], "not JSON (no content type)"),
        (b'{"x": NaN}', [], "not JSON"),
        (b"\xc3(", [], "not JSON"),
        (b'{"a":1}', [("content-encoding", "gzip")], "compressed (gzip)"),
        (b'"' + b"x" * 5000 + b'"', [], "longer than MLAUDIT_BODY_LIMIT (5002 bytes)"),
        (b"[" * 3000 + b"]" * 3000, [], "not JSON"),
    ],
)
def test_a_body_that_cannot_be_redacted_is_left_out_and_the_record_says_why(
    ask: Any, body: bytes, headers: Any, why: str
) -> None:
    """Digest and size are always there; content only when every value in it could be looked at."""
    env = {"MLAUDIT_BODY_LIMIT": "5001B" if b"x" * 100 in body else "64KiB"}
    with capture(FULL, env, instrument=False) as log:
        ask(answering(b"ok"), "POST", "/predict", body=body, headers=headers)
        record = only(log)
    assert "http.request.body.content" not in record
    assert why in record["event.reason"]
    assert record["http.request.body.truncated"] is True
    assert record["http.request.body.bytes"] == len(body)
    assert record["http.request.body.hash.sha256"] == hashlib.sha256(body).hexdigest()


def test_a_request_body_that_nobody_read_has_no_digest(ask: Any, log: AuditLog) -> None:
    """A digest of a part would be taken for a digest of the whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    ask(AsgiMiddleware(app), "POST", "/upload", body=[b"part", b"rest"])
    assert "http.request.body.hash.sha256" not in only(log)
    assert "http.request.body.bytes" not in only(log)


def test_a_level_of_none_records_nothing(ask: Any) -> None:
    """A rule may leave requests out."""
    with capture(FULL.replace("full", "none"), instrument=False) as log:
        assert ask(answering(b"ok")).body == b"ok"
        assert log.kinds() == []


def test_a_configuration_change_names_its_keys_ticket_and_approver(ask: Any, log: AuditLog) -> None:
    """The built-in policy takes ``PUT /config/**`` for a change; at metadata level values stay out."""
    ask(
        answering(b"ok"),
        "PUT",
        "/config/model",
        body=b'{"threshold":0.7,"limits":{"rows":10},"api_key":"x"}',
        headers=[("X-Change-Ticket", "CHG-1"), ("X-Change-Approver", "dora")],
    )
    record = only(log)
    assert record["audit.kind"] == "audit.ml.config.changed"
    assert record["ml.config.source"] == "route"
    assert record["ml.config.path"] == record["audit.target.id"] == "/config/model"
    assert record["ml.config.keys"] == ["api_key", "limits.rows", "threshold"]
    assert record["ml.change.ticket"] == "CHG-1"
    assert record["ml.change.approver"].startswith("hmac:")
    assert record["ml.change.in_window"] is True
    assert "ml.config.changes" not in record
    assert record["audit.guarantee"] == "durable"


def test_a_configuration_change_shows_values_where_the_level_asks(ask: Any) -> None:
    """At level inputs the new values are there, those of secret keys are not."""
    policy = FULL.replace("full", "inputs") + (
        "routes: [{methods: PUT, path: /config/**, kind: audit.ml.config.changed}]\n"
    )
    with capture(policy, instrument=False) as log:
        ask(answering(b"ok"), "PUT", "/config/model", body=b'{"threshold":0.7,"db":{"password":"x"}}')
        changes = only(log)["ml.config.changes"]
    assert changes == {"threshold": 0.7}


@pytest.mark.parametrize("body", [b"", b"[1]", b"not json", b"{}"])
def test_a_configuration_change_without_readable_keys_is_still_recorded(
    ask: Any, log: AuditLog, body: bytes
) -> None:
    """Who changed what where counts, also when the body says nothing."""
    ask(answering(b"ok"), "PUT", "/config/model", body=body)
    assert only(log)["audit.kind"] == "audit.ml.config.changed"
    assert "ml.config.keys" not in only(log)


def test_a_fastapi_service_with_basic_authentication_is_audited_by_user(ask: Any) -> None:
    """The usual FastAPI dependency leaves no user in the scope; its user name is known all the same."""
    app, basic = FastAPI(), HTTPBasic()

    @app.post("/predict")
    def predict(credentials: HTTPBasicCredentials = Depends(basic)) -> int:  # noqa: B008
        if credentials.password != "right":
            raise HTTPException(401)
        return 1

    header = ("authorization", "Basic YWxpY2U6cmlnaHQ=")
    wrong = ("authorization", "Basic YWxpY2U6d3Jvbmc=")
    with capture(FULL + "redact: []\n", instrument=False) as log:
        ask(AsgiMiddleware(app), "POST", "/predict", headers=[header])
        ask(AsgiMiddleware(app), "POST", "/predict", headers=[wrong])
        # Beside the first one there is a record of the authentication, where FastAPI is hooked.
        good, bad = (record for record in log.records if "http.response.body.bytes" in record)
    assert (good["user.id"], good["audit.actor.method"]) == ("alice", "credential")
    assert (bad["audit.kind"], bad["user.id"]) == ("audit.access.authentication.failed", "alice")


def test_header_iterators_reach_application_and_server_unused(ask: Any, log: AuditLog) -> None:
    """ASGI allows any iterable of headers; reading it must not use it up."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert list(scope["headers"]) == [(b"x-request-id", b"7")]
        await send(
            {"type": "http.response.start", "status": 200, "headers": iter([(b"content-length", b"1")])},
        )
        await send({"type": "http.response.body", "body": b"1"})

    heard = ask(AsgiMiddleware(app))
    assert heard.error is not None  # the first request has no such header: the assertion above is alive
    heard = asyncio.run(_with_iterator(ask, AsgiMiddleware(app)))
    assert heard.error is None
    assert heard.headers == {b"content-length": b"1"}


async def _with_iterator(ask: Any, app: Any) -> Any:
    async def iterated(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = iter([(b"x-request-id", b"7")])
        await app(scope, receive, send)

    return await ask.send(iterated)


def test_a_file_response_is_recorded_before_its_last_bytes(ask: Any, log: AuditLog, tmp_path: Any) -> None:
    """A file whose size is a multiple of the chunk ends with its last full chunk, not with the empty message."""
    from fastapi.responses import FileResponse

    path = tmp_path / "artifact.bin"
    path.write_bytes(b"m" * (2 * FileResponse.chunk_size))
    app = FastAPI()

    @app.get("/file")
    def file() -> FileResponse:
        return FileResponse(path)

    seen: list[tuple[int, int]] = []
    ask.on_message = lambda m: seen.append((len(m.get("body", b"")), len(log.of("audit.api.request"))))
    ask(AsgiMiddleware(app), "GET", "/file")
    assert [records for size, records in seen if size] == [0, 1]
    assert only(log)["http.response.body.bytes"] == path.stat().st_size


def test_a_large_streamed_body_is_never_held(ask: Any) -> None:
    """100 MB pass through in chunks; nothing of them is kept beyond the limit."""
    chunk = b"x" * (1 << 20)
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        kept.append(receive.__self__.request.raw())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        kept.append(receive.__self__.response.raw())
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    with capture(FULL, instrument=False) as log:
        ask.on_message = lambda message: message.update(body=b"")
        ask(AsgiMiddleware(app), "POST", "/predict", body=[chunk] * 100)
        record = only(log)
    assert kept == [None, None]
    assert record["http.request.body.bytes"] == record["http.response.body.bytes"] == 100 << 20
    assert record["http.request.body.hash.sha256"] == hashlib.sha256(chunk * 100).hexdigest()


def test_a_streaming_endpoint_of_fastapi_is_one_record(ask: Any, log: AuditLog) -> None:
    """FastAPI's streaming response runs in a task group of its own."""
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]))

    @app.get("/empty")
    async def empty() -> Response:
        return Response(status_code=204)

    assert ask(AsgiMiddleware(app), "GET", "/stream").body == b"ab"
    assert ask(AsgiMiddleware(app), "GET", "/empty").status == 204
    assert [record["http.response.status_code"] for record in log.of("audit.api.request")] == [200, 204]
