"""Flask services under audit as they are: who asked which route, and what came of it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flask")
import flask
from flask import Flask, abort, g, jsonify, request, stream_with_context

from mlaudit.capture.request_context import ModelUse, open_trail
from mlaudit.capture.web.wsgi import WsgiMiddleware
from mlaudit.testing import AuditLog

Hooked = Callable[..., AbstractContextManager[AuditLog]]
PLAIN = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
redact: []
rules: [{name: everything, level: metadata}]
"""


def service() -> Flask:
    """A service that says nothing about auditing."""
    app = Flask(__name__)

    @app.post("/predict/<int:number>")
    def predict(number: int) -> Any:
        trail = open_trail()
        if trail is not None:
            trail.models.append(ModelUse(name="credit", version="3"))
        return jsonify(sum=number + len(request.get_json()))

    @app.get("/items/<name>")
    def item(name: str) -> Any:
        if name == "broken":
            raise LookupError("secret data")
        if name == "handled":
            raise ArithmeticError("secret data")
        abort(int(name))

    @app.get("/stream")
    def stream() -> Any:
        def pieces() -> Iterator[str]:
            yield request.args["a"]
            yield "b"

        return app.response_class(stream_with_context(pieces()))

    @app.get("/me")
    def me() -> Any:
        how = request.args.get("how")
        if how == "login":
            g._login_user = SimpleNamespace(id="ann", is_authenticated=True)
        elif how == "nobody":
            g._login_user = SimpleNamespace(is_authenticated=False)
        elif how == "g":
            g.user = {"sub": "bob", "roles": ["analyst"]}
        elif how == "httpauth":
            g.flask_httpauth_user = "carl"
        return "ok"

    @app.errorhandler(ArithmeticError)
    def handled(_: Any) -> Any:
        return "sorry", 503

    return app


def requests(log: AuditLog) -> list[dict[str, Any]]:
    """The records of requests."""
    return [record for record in log.records if "url.path" in record]


def test_a_prediction_is_recorded_with_its_route_and_model(hooked: Hooked) -> None:
    """Route template, digests of both bodies, and the model that answered inside of the view."""
    with hooked("flask") as log:
        answer = service().test_client().post("/predict/2", json=[1, 2])
        assert answer.json == {"sum": 4}
        (record,) = requests(log)
    assert record["audit.kind"] == "audit.ml.prediction"
    assert record["http.route"] == "/predict/<int:number>"
    assert record["url.path"] == "/predict/2"
    assert record["audit.target.id"] == "credit@3"
    assert record["http.request.body.bytes"] == 6
    assert len(record["http.response.body.hash.sha256"]) == 64
    assert record["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("name", "kind", "status", "error"),
    [
        ("broken", "audit.api.request", 500, "LookupError"),
        ("handled", "audit.api.request", 503, "ArithmeticError"),
        ("503", "audit.api.request", 503, "ServiceUnavailable"),
        ("401", "audit.access.authentication.failed", 401, None),
        ("403", "audit.access.denied", 403, None),
        ("404", "audit.api.request", 404, None),
    ],
)
def test_an_error_in_a_request_is_recorded_by_its_class(
    hooked: Hooked, name: str, kind: str, status: int, error: str | None
) -> None:
    """An exception behind a 5xx is named, its text is not; what was refused is an access event."""
    with hooked("flask") as log:
        assert service().test_client().get(f"/items/{name}").status_code == status
        (record,) = requests(log)
        assert "secret data" not in str(log.records)
    assert (record["audit.kind"], record["event.outcome"]) == (kind, "failure")
    assert record["http.response.status_code"] == status
    assert record.get("error.type") == error
    assert record["http.route"] == "/items/<name>"


def test_an_exception_that_flask_does_not_handle_reaches_the_program_and_the_record(hooked: Hooked) -> None:
    """As in tests, where Flask lets exceptions through."""
    with hooked("flask") as log:
        app = service()
        app.testing = True
        with pytest.raises(LookupError):
            app.test_client().get("/items/broken")
        (record,) = requests(log)
    assert (record["error.type"], record["http.route"]) == ("LookupError", "/items/<name>")


def test_a_stream_keeps_its_context(hooked: Hooked) -> None:
    """A generator that uses the request while the answer is read."""
    with hooked("flask") as log:
        assert service().test_client().get("/stream?a=a").data == b"ab"
        (record,) = requests(log)
    assert record["http.response.body.bytes"] == 2


@pytest.mark.parametrize(
    ("how", "actor"),
    [
        ("login", ("ann", "authenticated")),
        ("g", ("bob", "context")),
        ("httpauth", ("carl", "context")),
        ("nobody", ("dora", "credential")),
        ("", ("dora", "credential")),
    ],
)
def test_the_user_is_found_where_flask_programs_keep_it(
    hooked: Hooked, how: str, actor: tuple[str, str]
) -> None:
    """Flask-Login, ``flask.g``, Flask-HTTPAuth, else the user name of HTTP Basic; never the password."""
    credential = base64.b64encode(b"dora:hunter2").decode()
    with hooked("flask", policy=PLAIN) as log:
        service().test_client().get(f"/me?how={how}", headers={"Authorization": f"Basic {credential}"})
        record = requests(log)[0]
        assert "hunter2" not in str(log.records)
        assert credential not in str(log.records)
    assert (record["audit.actor.id"], record["audit.actor.method"]) == actor


def test_a_middleware_and_the_integration_make_one_record_with_the_route(hooked: Hooked) -> None:
    """An application wrapped by hand is recorded once, and knows its route."""
    with hooked("flask") as log:
        app: Any = WsgiMiddleware(service())
        from werkzeug.test import Client

        assert Client(app).get("/me").status_code == 200
        (record,) = requests(log)
    assert record["http.route"] == "/me"


def test_a_trusted_proxy_gives_the_address(hooked: Hooked) -> None:
    """What Werkzeug's ProxyFix makes of the forwarded address is the client."""
    from werkzeug.middleware.proxy_fix import ProxyFix

    with hooked("flask", policy=PLAIN) as log:
        app = service()
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
        app.test_client().get("/me", headers={"X-Forwarded-For": "198.51.100.9"})
        assert requests(log)[0]["source.ip"] == "198.51.100.9"


def test_uninstrument_leaves_flask_as_it_was(hooked: Hooked) -> None:
    """Hooks are gone, and auditing with them."""
    before = (Flask.__call__, Flask.full_dispatch_request, Flask.handle_exception)
    with hooked("flask"):
        assert Flask.__call__ is not before[0]
    assert before == (Flask.__call__, Flask.full_dispatch_request, Flask.handle_exception)
    assert flask.Flask is Flask


def test_a_broken_hook_costs_the_client_nothing(hooked: Hooked, broken: str) -> None:
    """Answers are what they were, the request is recorded, and the fault is reported."""
    with hooked("flask") as log:
        client = service().test_client()
        assert client.post("/predict/2", json=[1]).json == {"sum": 3}
        assert client.get("/items/handled").status_code == 503
        assert len(requests(log)) == 2
        assert log.pipeline.counts.faults >= 2
        assert log.of("audit.pipeline.failure")[0]["audit.component"] == "capture.flask"
    assert broken
