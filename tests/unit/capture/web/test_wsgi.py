"""One record for each request of a WSGI application, whatever becomes of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from opentelemetry.sdk.trace import TracerProvider

from mlaudit.capture import request_context
from mlaudit.capture.request_context import ModelUse, open_trail
from mlaudit.capture.web import http_exchange, wsgi, wsgi_exchange
from mlaudit.capture.web.wsgi import WsgiMiddleware
from mlaudit.errors import SpoolFullError
from mlaudit.testing import AuditLog, capture

RULES = """
version: 1
revisions: [{{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}}]
rules: [{{name: everything, {rule}}}]
"""
FULL = RULES.format(rule="level: full")
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
rules:
  - name: predictions
    match: {kind: audit.ml.prediction}
    level: metadata
    guarantee: durable
    on_failure: refuse
  - name: rest
    level: metadata
"""


@dataclass
class Heard:
    """What the client was sent, in its order, and what the application raised."""

    status: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def ask(
    app: Any,
    method: str = "GET",
    path: str = "/",
    *,
    body: bytes = b"",
    stop_after: int | None = None,
    before_piece: Callable[[], int] = int,
    **more: Any,
) -> Heard:
    """A WSGI server of a few lines; ``before_piece`` is asked before each piece goes to the client."""
    heard = Heard()
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "198.51.100.7",
        "REMOTE_PORT": "4711",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.file_wrapper": FileWrapper,
        **more,
    }

    def write(piece: bytes) -> None:
        heard.seen.append(before_piece())
        heard.pieces.append(piece)

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info and heard.pieces:
            raise exc_info[1].with_traceback(exc_info[2])
        heard.status, heard.headers = status, dict(headers)
        return write

    answer: Any = None
    try:
        answer = app(environ, start_response)
        for piece in answer:
            assert heard.status
            if piece:
                write(piece)
            if stop_after is not None and len(heard.pieces) >= stop_after:
                break
    except BaseException as error:  # noqa: BLE001 - what a server would see
        heard.error = error
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return heard


def answering(*pieces: bytes, status: str = "200 OK", headers: Any = (), length: bool = False) -> Any:
    """An application that reads its request and streams these pieces."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        sized = [("Content-Length", str(sum(map(len, pieces))))] if length else []
        start_response(status, [*headers, *sized])
        yield from pieces

    return WsgiMiddleware(app)


def only(log: AuditLog) -> dict[str, Any]:
    """The one record that a request left."""
    (record,) = [r for r in log.records if not r["audit.kind"].startswith(("audit.stream", "audit.policy"))]
    return record


@pytest.fixture
def log() -> Any:
    """Audit under the built-in policy, without any library hook."""
    with capture(instrument=False) as running:
        yield running


def test_a_request_becomes_one_record_that_says_what_was_asked_and_answered(log: AuditLog) -> None:
    """Method, path, status, sizes, digests, duration, client and user agent are in the record."""
    heard = ask(
        answering(b'{"ok":', b"true}"),
        "POST",
        "/th\xc3\xa4ngs",
        body=b"abc",
        QUERY_STRING="page=2&password=hunter2",
        HTTP_USER_AGENT="curl/8",
        HTTP_HOST="models.example.org:8443",
        HTTP_X_REQUEST_ID="r-1",
        SCRIPT_NAME="/api",
    )
    record = only(log)
    assert heard.body == b'{"ok":true}'
    assert record["audit.kind"] == "audit.api.request"
    assert record["event.outcome"] == "success"
    assert record["http.request.method"] == "POST"
    assert record["url.path"] == "/api/th\u00e4ngs"
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
    assert record["source.port"] == 4711
    assert record["event.duration"] > 0
    assert "http.request.body.content" not in record


def test_with_a_length_the_last_piece_waits_for_the_record(log: AuditLog) -> None:
    """The first piece passes through, the one that completes the answer comes after the record."""
    heard = ask(answering(b"ab", b"cd", length=True), before_piece=lambda: len(log.of("audit.api.request")))
    assert (heard.body, heard.seen) == (b"abcd", [0, 1])


def test_without_a_length_the_end_of_the_answer_waits_for_the_record(log: AuditLog) -> None:
    """No piece of a stream is held back; the record is there before the server hears of the end."""
    answer = WsgiMiddleware(lambda _, start: start("200 OK", []) and iter([b"a", b"b"]))(
        {**_environ(), "REQUEST_METHOD": "GET"}, lambda *_: print
    )
    assert [next(iter(answer)), next(iter(answer))] == [b"a", b"b"]
    assert not log.of("audit.api.request")
    with pytest.raises(StopIteration):
        next(iter(answer))
    assert len(log.of("audit.api.request")) == 1


def test_an_answer_in_a_list_reaches_the_server_as_that_list(log: AuditLog) -> None:
    """Servers take the length of a list for the length of the answer."""
    pieces = [b"whole"]
    answer = WsgiMiddleware(lambda _, start: start("200 OK", []) and pieces)(_environ(), lambda *_: print)
    assert answer is pieces
    assert only(log)["http.response.body.bytes"] == 5


def test_a_file_is_left_to_the_server(log: AuditLog) -> None:
    """The server gets its own wrapper back, so that it can send the file by itself."""
    wrapper = FileWrapper(io.BytesIO(b"data"))
    environ = {**_environ(), "wsgi.file_wrapper": FileWrapper}
    answer = WsgiMiddleware(lambda _, start: start("200 OK", []) and wrapper)(environ, lambda *_: print)
    assert answer is wrapper
    assert "http.response.body.bytes" not in only(log)


def test_pieces_given_to_write_are_of_the_answer(log: AuditLog) -> None:
    """The old way of WSGI works and is counted."""

    def app(_: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"ab")
        write(b"c")
        return iter([b"d"])

    assert ask(WsgiMiddleware(app)).body == b"abcd"
    assert only(log)["http.response.body.bytes"] == 4


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
)
def test_answers_without_content_are_recorded(log: AuditLog, method: str, status: str) -> None:
    """Also when the server does not look into them."""
    heard = ask(answering(status=status), method)
    assert heard.status == status
    ask(WsgiMiddleware(lambda _, start: start(status, []) and iter([b"x"])), method, stop_after=0)
    assert [record["event.outcome"] for record in log.of("audit.api.request")] == ["success", "success"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("401 Unauthorized", "audit.access.authentication.failed"),
        ("403 Forbidden", "audit.access.denied"),
        ("404 Not Found", "audit.api.request"),
    ],
)
def test_what_was_refused_is_an_access_event(log: AuditLog, status: str, kind: str) -> None:
    """As with any other server."""
    ask(answering(b"no", status=status))
    assert (only(log)["audit.kind"], only(log)["event.outcome"]) == (kind, "failure")


def test_an_exception_of_the_application_reaches_the_server_and_the_record(log: AuditLog) -> None:
    """Before the answer, and in the middle of a stream."""

    def early(_: Any, __: Any) -> Any:
        raise KeyError("data")

    def late(_: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        raise ValueError("data")

    assert isinstance(ask(WsgiMiddleware(early)).error, KeyError)
    heard = ask(WsgiMiddleware(late))
    assert isinstance(heard.error, ValueError)
    assert heard.body == b"a"
    first, second = log.of("audit.api.request")
    assert (first["error.type"], first["http.response.status_code"]) == ("KeyError", 500)
    assert (second["error.type"], second["event.outcome"]) == ("ValueError", "failure")


def test_an_error_page_names_the_exception_behind_it(log: AuditLog) -> None:
    """An application that answers 500 from within ``except``, with or without ``exc_info``."""

    def app(environ: Any, start_response: Any) -> Any:
        import sys

        try:
            raise LookupError("data")
        except LookupError:
            more = (sys.exc_info(),) if environ["PATH_INFO"] == "/with" else ()
            start_response("500 Internal Server Error", [], *more)
        return iter([b"sorry"])

    ask(WsgiMiddleware(app), path="/with")
    ask(WsgiMiddleware(app))
    assert [record["error.type"] for record in log.of("audit.api.request")] == ["LookupError"] * 2


def test_a_client_that_goes_away_is_told_as_unknown(log: AuditLog) -> None:
    """The server closes an answer that it has not read to its end."""
    ask(answering(b"a", b"b", b"c"), stop_after=1)
    record = only(log)
    assert record["event.outcome"] == "unknown"
    assert record["event.reason"] == "the server did not ask for the end of the response"


def test_an_application_that_never_answers_is_a_failure(log: AuditLog) -> None:
    """An iterable without a status."""
    environ = _environ()
    answer: Any = WsgiMiddleware(lambda *_: iter([b"a"]))(environ, lambda *_: print)
    answer.close()
    assert only(log)["event.reason"] == "the application returned without a response"


def test_a_body_that_was_not_read_has_no_digest(log: AuditLog) -> None:
    """Half of it would be the digest of no body."""

    def app(environ: Any, start_response: Any) -> Any:
        environ["wsgi.input"].read(2)
        start_response("200 OK", [])
        return [b""]

    ask(WsgiMiddleware(app), "POST", body=b"abcdef")
    assert "http.request.body.hash.sha256" not in only(log)


@pytest.mark.parametrize("how", ["read", "sized", "lines", "iterated", "readlines", "readinto", "chunked"])
def test_a_body_is_seen_however_it_is_read(log: AuditLog, how: str) -> None:
    """Every way that PEP 3333 allows, and ``readinto``, gives the same digest."""
    body = b"a\nbc\nd"

    def app(environ: Any, start_response: Any) -> Any:
        stream = environ["wsgi.input"]
        if how in ("sized", "chunked"):
            while stream.read(2):
                pass
        elif how == "lines":
            while stream.readline():
                pass
        elif how == "iterated":
            assert list(stream) == [b"a\n", b"bc\n", b"d"]
        elif how == "readinto":
            assert stream.readinto(bytearray(100)) == len(body)
        else:
            getattr(stream, how)()
        start_response("200 OK", [])
        return [b""]

    more = {"CONTENT_LENGTH": ""} if how == "chunked" else {}
    ask(WsgiMiddleware(app), "POST", body=body, **more)
    assert only(log)["http.request.body.hash.sha256"] == hashlib.sha256(body).hexdigest()


def test_a_model_asked_inside_a_request_is_in_the_requests_record(log: AuditLog) -> None:
    """Also one that a generator asks while the answer is read; the trail is gone afterwards."""

    def app(_: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        trail = open_trail()
        assert trail is not None
        trail.models.append(ModelUse(name="credit", version="3", rows=2))
        yield b"1"

    ask(WsgiMiddleware(app))
    record = only(log)
    assert (record["audit.kind"], record["audit.target.id"]) == ("audit.ml.prediction", "credit@3")
    assert record["ml.prediction.rows"] == 2
    assert request_context.current_request.get() is None


def test_the_path_names_the_model(log: AuditLog) -> None:
    """Name and version of the model that a model server's path asks for."""
    ask(answering(b"{}"), "POST", "/v2/models/credit/versions/3/infer", body=b"{}")
    record = only(log)
    assert (record["audit.kind"], record["audit.target.id"]) == ("audit.ml.prediction", "credit@3")
    assert (record["ml.model.name"], record["ml.model.version"]) == ("credit", "3")


def test_probes_are_not_audited(log: AuditLog) -> None:
    """A route of kind none leaves nothing."""
    assert ask(answering(b"ok"), path="/healthz").body == b"ok"
    assert "audit.api.request" not in log.kinds()


def test_a_configuration_route_says_what_was_changed(log: AuditLog) -> None:
    """Keys, ticket and approver of a change."""
    ask(
        answering(b""),
        "PUT",
        "/config/model",
        body=b'{"threshold": 0.5}',
        HTTP_X_CHANGE_TICKET="CHG-1",
    )
    record = only(log)
    assert record["audit.kind"] == "audit.ml.config.changed"
    assert (record["ml.config.keys"], record["ml.change.ticket"]) == (["threshold"], "CHG-1")


def test_a_configuration_route_says_what_was_there_before(log: AuditLog) -> None:
    """The digest of the last whole configuration that this process was given; a part is no whole."""
    for method, body in (
        ("PUT", b"{}"),
        ("PUT", b'{"a": 1}'),
        ("PATCH", b'{"b": 1}'),
        ("PUT", b"{}"),
        ("DELETE", b""),
    ):
        ask(answering(b""), method, "/config/before", body=body)
    ask(answering(b"", status="409 Conflict"), "PUT", "/config/before", body=b"[]")
    ask(answering(b""), "PUT", "/config/before", body=b"{}")
    empty, one = (hashlib.sha256(body).hexdigest() for body in (b"{}", b'{"a": 1}'))
    before = [record.get("ml.config.before.digest") for record in log.of("audit.ml.config.changed")]
    assert before == [None, empty, one, None, empty, None, None]


def test_contents_are_recorded_where_the_policy_says_full() -> None:
    """Both bodies, as JSON."""
    with capture(FULL, instrument=False) as log:
        app = answering(b'{"y": 1}', headers=[("Content-Type", "application/json")])
        ask(app, "POST", body=b'{"x": 1}')
        record = only(log)
    assert record["http.request.body.content"] == '{"x": 1}'
    assert record["http.response.body.content"] == '{"y": 1}'


@pytest.mark.parametrize(
    ("more", "actor"),
    [
        ({"REMOTE_USER": "ann"}, ("ann", "authenticated")),
        ({"HTTP_X_USER": "bob"}, ("bob", "header")),
        ({"HTTP_AUTHORIZATION": "Basic Y2FybDpzZWNyZXQ="}, ("carl", "credential")),
        ({"HTTP_X_USER": "bob,mallory"}, ("anonymous", "anonymous")),
        ({}, ("anonymous", "anonymous")),
    ],
)
def test_who_it_was_is_found_as_everywhere(more: dict[str, str], actor: tuple[str, str]) -> None:
    """The server's user, the proxy's header unless it may have been sent twice, the credential."""
    with capture(
        RULES.format(rule="level: metadata") + "redact: []\n",
        {"MLAUDIT_ACTOR_HEADER": "X-User"},
        instrument=False,
    ) as log:
        ask(answering(b""), **more)
        (found,) = log.of("audit.api.request")
    assert (found["audit.actor.id"], found["audit.actor.method"]) == actor
    assert "secret" not in str(log.records)


def test_the_record_and_the_span_of_a_request_lead_to_each_other(log: AuditLog) -> None:
    """Trace and span id in the record, the record's id and the actor as it may be seen on the span."""
    tracer = TracerProvider().get_tracer("web")
    spans = []

    def app(_: Any, start_response: Any) -> Any:
        with tracer.start_as_current_span("GET /") as span:
            spans.append(span)
            start_response("200 OK", [])
            return [b""]

    with tracer.start_as_current_span("server") as server:
        ask(answering(b"a"), HTTP_AUTHORIZATION="Basic Y2FybDpzZWNyZXQ=")
    ask(WsgiMiddleware(app))
    first, second = log.of("audit.api.request")
    assert first["trace.id"] == f"{server.get_span_context().trace_id:032x}"
    assert server.attributes["audit.record.id"] == first["audit.record.id"]  # type: ignore[attr-defined]
    assert server.attributes["audit.actor.id"] == first["audit.actor.id"] != "carl"  # type: ignore[attr-defined]
    assert second["span.id"] == f"{spans[0].get_span_context().span_id:016x}"


def test_without_a_span_the_callers_trace_is_joined(log: AuditLog) -> None:
    """By a valid ``traceparent``."""
    ask(answering(b""), HTTP_TRACEPARENT=f"00-{'ab' * 16}-{'cd' * 8}-01")
    assert (only(log)["trace.id"], only(log)["span.id"]) == ("ab" * 16, "cd" * 8)


def test_two_layers_make_one_record(log: AuditLog) -> None:
    """A request that passes through two of them is recorded by the outer one."""
    ask(WsgiMiddleware(answering(b"a")))
    only(log)


def test_without_auditing_the_application_is_called_as_it_is() -> None:
    """No pipeline, no wrapper."""
    pieces = [b"a"]
    assert WsgiMiddleware(lambda *_: pieces)(_environ(), print) is pieces


def test_nothing_runs_that_cannot_be_recorded() -> None:
    """The policy says refuse and the spool cannot be written: 503 before the application is called."""
    called = []
    with capture(REFUSE, instrument=False) as log:
        log.fail(SpoolFullError("full"))
        heard = ask(WsgiMiddleware(lambda *_: called.append(1)), "POST", "/predict")
    assert heard.status == "503 Service Unavailable"
    assert heard.headers["content-type"] == "application/problem+json"
    assert called == []


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_whose_record_cannot_be_stored_is_replaced(whole: bool) -> None:
    """Storing fails while the application runs: the client gets 503 instead of the answer."""
    with capture(REFUSE, instrument=False) as log:

        def app(_: Any, start_response: Any) -> Any:
            log.fail(SpoolFullError("full"))
            start_response("200 OK", [("Content-Length", "4")])
            return [b"data"] if whole else iter([b"data"])

        heard = ask(WsgiMiddleware(app), "POST", "/predict")
    assert heard.status == "503 Service Unavailable"
    assert b"data" not in heard.body


def test_a_stream_whose_record_cannot_be_stored_breaks_off() -> None:
    """What has begun cannot become a 503: the server gets an error before the end."""
    with capture(REFUSE, instrument=False) as log:

        def app(_: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"a"
            log.fail(SpoolFullError("full"))
            yield b"b"

        heard = ask(WsgiMiddleware(app), "POST", "/predict")
    assert type(heard.error).__name__ == "AuditRefusedError"


class BrokenError(Exception):
    """What a bug of ours would raise."""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (wsgi, "WsgiExchange"),
        (wsgi, "path_of"),
        (wsgi_exchange, "headers_of"),
        (wsgi_exchange, "client_of"),
        (wsgi_exchange, "trace"),
        (http_exchange, "Body"),
        (http_exchange, "find_actor"),
        (http_exchange, "event_of"),
    ],
)
def test_a_broken_part_costs_the_client_nothing_and_is_told(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    """The answer arrives whole, and the trail says which component failed, without the data it failed on."""

    def broken(*_: object, **__: object) -> Any:
        raise BrokenError("with secret data")

    monkeypatch.setattr(module, name, broken)
    heard = ask(answering(b"ab", b"cd", status="201 Created"), "POST", "/predict", body=b"1")
    assert (heard.status, heard.body, heard.error) == ("201 Created", b"abcd", None)
    assert log.pipeline.counts.faults >= 1
    assert any("wsgi" in record.get("audit.failure.reason", "") for record in log.records)
    assert "secret data" not in str(log.records)


def _environ() -> dict[str, Any]:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    return environ
