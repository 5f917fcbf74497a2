"""Django services under audit as they are, behind WSGI and behind ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django")
import django
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, re_path

from mlaudit.capture.request_context import ModelUse, open_trail
from mlaudit.testing import AuditLog

Hooked = Callable[..., AbstractContextManager[AuditLog]]
PLAIN = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
redact: []
rules: [{name: everything, level: metadata}]
"""
PASSWORD = "correct horse"


def predict(request: Any, number: int) -> Any:
    """Asks a model."""
    trail = open_trail()
    if trail is not None:
        trail.models.append(ModelUse(name="credit", version="3"))
    return JsonResponse({"sum": number + len(request.body)})


async def predict_async(request: Any, number: int) -> Any:
    """Asks a model in the event loop."""
    return predict(request, number)


def fail(request: Any, how: str) -> Any:
    """Fails."""
    if how == "denied":
        raise PermissionDenied("secret data")
    if how == "unknown":
        return HttpResponse(status=401)
    raise LookupError("secret data")


def me(request: Any) -> Any:
    """Looks at the user."""
    return HttpResponse(request.user.get_username())


def unasked(request: Any) -> Any:
    """Does not read the user."""
    return HttpResponse("ok")


def log_in(request: Any) -> Any:
    """A login form."""
    from django.contrib.auth import authenticate, login

    user = authenticate(request, username=request.POST["username"], password=request.POST["password"])
    if user is None:
        return HttpResponse("try again")  # 200, as Django's own form does
    login(request, user)
    return HttpResponse("welcome")


def stream(request: Any) -> Any:
    """Streams."""
    return StreamingHttpResponse(iter([b"a", b"b"]))


urlpatterns = [
    path("predict/<int:number>/", predict),
    path("async/<int:number>/", predict_async),
    path("fail/<str:how>/", fail),
    path("me/", me),
    path("unasked/", unasked),
    path("login/", log_in),
    path("accounts/enter/", log_in),
    path("stream/", stream),
    re_path(r"^old/(?P<year>[0-9]{4})/$", unasked),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one module, with one user."""
    folder = tmp_path_factory.mktemp("django")
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db")}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
        LOGGING_CONFIG=None,
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="x" * 50,
    )
    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    User.objects.create_user("ann", password=PASSWORD, is_staff=True)
    connections.close_all()
    return folder


def wsgi(method: str, target: str, body: bytes = b"", cookie: str = "") -> tuple[int, bytes, str]:
    """One request behind WSGI: status, body and cookie."""
    from django.core.handlers.wsgi import WSGIHandler
    from werkzeug.test import Client

    kind = "application/x-www-form-urlencoded"
    answer = Client(WSGIHandler(), use_cookies=False).open(
        target, method=method, data=body, content_type=kind, headers={"Cookie": cookie}
    )
    return answer.status_code, answer.data, answer.headers.get("Set-Cookie", "").partition(";")[0]


def asgi(method: str, target: str, body: bytes = b"", cookie: str = "") -> tuple[int, bytes, str]:
    """One request behind ASGI: status, body and cookie."""
    from django.core.handlers.asgi import ASGIHandler

    sent: list[dict[str, Any]] = []

    async def run() -> None:
        incoming = [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": target,
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/x-www-form-urlencoded"),
                (b"cookie", cookie.encode()),
                (b"host", b"localhost"),
            ],
            "client": ("198.51.100.7", 4711),
            "server": ("127.0.0.1", 80),
        }
        await ASGIHandler()(scope, receive, send)

    asyncio.run(run())
    headers = dict(sent[0]["headers"])
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], content, headers.get(b"Set-Cookie", b"").decode().partition(";")[0]


@pytest.fixture(params=[wsgi, asgi])
def ask(request: pytest.FixtureRequest, project: Path) -> Iterator[Any]:
    """Sends a request to the project, behind either interface."""
    yield request.param
    from django.db import connections

    connections.close_all()


def requests(log: AuditLog) -> list[dict[str, Any]]:
    """The records of requests."""
    return [record for record in log.records if "http.request.method" in record]


@pytest.mark.parametrize("view", ["predict", "async"])
def test_a_prediction_is_recorded_with_its_route_and_model(hooked: Hooked, ask: Any, view: str) -> None:
    """Route template, digests of both bodies, and the model that answered inside of the view."""
    with hooked("django") as log:
        assert ask("POST", f"/{view}/2/", b"abc")[:2] == (200, b'{"sum": 5}')
        (record,) = requests(log)
    assert record["audit.kind"] == "audit.ml.prediction"
    assert record["http.route"] == f"/{view}/<int:number>/"
    assert record["url.path"] == f"/{view}/2/"
    assert record["audit.target.id"] == "credit@3"
    assert record["http.request.body.bytes"] == 3
    assert record["http.response.body.bytes"] == 10


@pytest.mark.parametrize(
    ("how", "status", "kind", "error"),
    [
        ("denied", 403, "audit.access.denied", None),
        ("unknown", 401, "audit.access.authentication.failed", None),
        ("raised", 500, "audit.api.request", "LookupError"),
    ],
)
def test_an_error_in_a_request_is_recorded_by_its_class(
    hooked: Hooked, ask: Any, how: str, status: int, kind: str, error: str | None
) -> None:
    """Permission denied is a denial, an exception behind a 500 is named, no text of either is recorded."""
    with hooked("django") as log:
        assert ask("GET", f"/fail/{how}/")[0] == status
        (record,) = requests(log)
        assert "secret data" not in str(log.records)
    assert (record["audit.kind"], record["event.outcome"]) == (kind, "failure")
    assert record.get("error.type") == error
    assert record["http.route"] == "/fail/<str:how>/"


def test_a_login_and_a_failed_one_are_told_whatever_the_status(hooked: Hooked, ask: Any) -> None:
    """On a route that the policy does not know: one record for each, with whom the credential named."""
    with hooked("django", policy=PLAIN + "routes: []\n") as log:
        form = f"username=ann&password={PASSWORD}".encode()
        assert ask("POST", "/accounts/enter/", form)[1] == b"welcome"
        assert ask("POST", "/accounts/enter/", b"username=ann&password=hunter2")[1] == b"try again"
        assert ask("POST", "/accounts/enter/", form)[1] == b"welcome"
        succeeded = log.of("audit.access.authentication.succeeded")
        failed = log.of("audit.access.authentication.failed")
        assert "hunter2" not in str(log.records)
        assert PASSWORD not in str(log.records)
    logins = [record for record in succeeded if record["audit.access.scheme"] == "password"]
    assert [record["audit.actor.id"] for record in logins] == ["ann", "ann"]
    (record,) = failed
    assert (record["audit.actor.id"], record["audit.access.scheme"]) == ("ann", "password")
    assert record["url.path"] == "/accounts/enter/"


def test_a_login_on_a_login_route_is_the_requests_own_record(hooked: Hooked, ask: Any) -> None:
    """No second record beside it, and a login that failed with status 200 is a failed one."""
    policy = PLAIN + "routes: [{methods: POST, path: /login, kind: audit.access.authentication.succeeded}]\n"
    with hooked("django", policy=policy) as log:
        ask("POST", "/login/", f"username=ann&password={PASSWORD}".encode())
        ask("POST", "/login/", b"username=ann&password=hunter2")
        first, second = requests(log)
        assert len([r for r in log.records if r["audit.kind"].startswith("audit.access")]) == 2
    assert (first["audit.kind"], first["audit.actor.id"]) == (
        "audit.access.authentication.succeeded",
        "ann",
    )
    assert (second["audit.kind"], second["event.outcome"], second["audit.actor.id"]) == (
        "audit.access.authentication.failed",
        "failure",
        "ann",
    )


def test_the_user_of_a_session_is_known_once_the_view_looks(hooked: Hooked, ask: Any) -> None:
    """With roles; a view that never asks costs no query, and its user is not known."""
    with hooked("django", policy=PLAIN) as log:
        cookie = ask("POST", "/login/", f"username=ann&password={PASSWORD}".encode())[2]
        assert ask("GET", "/me/", cookie=cookie)[1] == b"ann"
        ask("GET", "/unasked/", cookie=cookie)
        seen, unseen = [
            record
            for record in requests(log)
            if record["http.request.method"] == "GET" and record["audit.kind"] == "audit.api.request"
        ]
    assert (seen["audit.actor.id"], seen["audit.actor.method"]) == ("ann", "authenticated")
    assert seen["user.roles"] == ["staff"]
    assert unseen["audit.actor.id"] == "anonymous"


def test_streams_and_regular_expressions_work(hooked: Hooked, ask: Any) -> None:
    """A streamed answer is counted, a route that is a regular expression stays one."""
    with hooked("django") as log:
        assert ask("GET", "/stream/")[1] == b"ab"
        ask("GET", "/old/2026/")
        streamed, old = requests(log)
    assert streamed["http.response.body.bytes"] == 2
    assert old["http.route"] == "^old/(?P<year>[0-9]{4})/$"


def test_uninstrument_leaves_django_as_it_was(hooked: Hooked, project: Path) -> None:
    """Handlers and signals."""
    from django.contrib.auth.signals import user_logged_in
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler

    before = (WSGIHandler.__call__, ASGIHandler.__call__, len(user_logged_in.receivers))
    with hooked("django"):
        assert WSGIHandler.__call__ is not before[0]
        assert len(user_logged_in.receivers) == before[2] + 1
    assert before == (WSGIHandler.__call__, ASGIHandler.__call__, len(user_logged_in.receivers))


def test_a_broken_hook_costs_the_client_nothing(hooked: Hooked, ask: Any, broken: str) -> None:
    """Answers are what they were, the request is recorded, and the fault is reported."""
    with hooked("django") as log:
        assert ask("POST", "/predict/2/", b"abc")[:2] == (200, b'{"sum": 5}')
        assert ask("GET", "/fail/raised/")[0] == 500
        assert len(requests(log)) == 2
        assert log.of("audit.pipeline.failure")[0]["audit.component"] == "capture.django"
    assert broken


def test_a_broken_signal_receiver_does_not_break_the_login(
    hooked: Hooked, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever logs in is logged in."""
    from mlaudit.capture.web import django

    def broken(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(django, "_name_of", broken)
    with hooked("django") as log:
        assert ask("POST", "/accounts/enter/", f"username=ann&password={PASSWORD}".encode())[1] == b"welcome"
        assert log.of("audit.pipeline.failure")[0]["audit.component"] == "capture.django"
