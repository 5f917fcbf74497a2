"""FastAPI's security dependencies and Starlette's authentication: accepted, missing, refused."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBearer,
    HTTPDigest,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
)
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    SimpleUser,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mlaudit.catalog.names import ACCESS_AUTHENTICATION_FAILED, ACCESS_AUTHENTICATION_SUCCEEDED

SUCCEEDED, FAILED = ACCESS_AUTHENTICATION_SUCCEEDED, ACCESS_AUTHENTICATION_FAILED
SECRET = "hunter2-of-a-test"
READABLE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
routes: [{methods: POST, path: /login, kind: audit.access.authentication.succeeded}]
redact: []
rules: [{name: all, level: metadata}]
"""


def guarded(dependency: Any) -> FastAPI:
    """A service whose only route needs a credential."""
    app = FastAPI()

    @app.get("/guarded")
    def endpoint(found: Any = Depends(dependency)) -> str:  # noqa: B008
        return "yes" if found else "nobody"

    return app


BASIC = "Basic " + b64encode(f"carol:{SECRET}".encode()).decode()


@pytest.mark.parametrize(
    ("dependency", "headers", "query", "scheme", "actor"),
    [
        (APIKeyHeader(name="X-Model-Key"), [("X-Model-Key", SECRET)], b"", "api_key", "credential:hmac:"),
        (APIKeyQuery(name="key"), [], f"key={SECRET}".encode(), "api_key", "credential:hmac:"),
        (APIKeyCookie(name="key"), [("Cookie", f"key={SECRET}")], b"", "api_key", "credential:hmac:"),
        (HTTPBasic(), [("Authorization", BASIC)], b"", "basic", "carol"),
        (HTTPDigest(), [("Authorization", f'Digest username="carol", r="{SECRET}"')], b"", "digest", "carol"),
        (HTTPBearer(), [("Authorization", f"Bearer {SECRET}")], b"", "bearer", "credential:hmac:"),
        (
            OAuth2PasswordBearer("t"),
            [("Authorization", f"Bearer {SECRET}")],
            b"",
            "bearer",
            "credential:hmac:",
        ),
    ],
    ids=["header", "query", "cookie", "basic", "digest", "bearer", "oauth2"],
)
def test_a_credential_that_a_service_accepts(
    hooked: Any, ask: Any, dependency: Any, headers: Any, query: bytes, scheme: str, actor: str
) -> None:
    """Its first use is recorded beside the request; both name scheme and fingerprint of the key, never the key."""
    with hooked("starlette", "fastapi", policy=READABLE) as log:
        app = guarded(dependency)
        for _ in range(2):
            assert ask(app, path="/guarded", headers=headers, query=query).body == b'"yes"'
    assert log.kinds() == [SUCCEEDED, "audit.api.request", "audit.api.request"]
    first, request = log.of(SUCCEEDED)[0], log.of("audit.api.request")[0]
    for record in (first, request):
        assert record["audit.access.scheme"] == scheme
        assert record["audit.actor.id"].startswith(actor)
        assert record["audit.actor.method"] == "credential"
        assert record.get("audit.access.key_id", "hmac:").startswith("hmac:")
    assert ("audit.access.key_id" in first) == (scheme not in ("basic", "digest"))
    assert first["event.reason"] == "the application was given the credential and did not refuse the request"
    assert SECRET not in json.dumps(log.records)
    assert ("url.query" in request) == bool(query)


@pytest.mark.parametrize(
    "dependency",
    [APIKeyHeader(name="X-Model-Key"), HTTPBasic(), HTTPBearer(), OAuth2PasswordBearer("token")],
    ids=["api_key", "basic", "bearer", "oauth2"],
)
def test_a_missing_credential_is_a_failed_authentication(hooked: Any, ask: Any, dependency: Any) -> None:
    """One record, whether this version of FastAPI answers 401 or 403."""
    with hooked("starlette", "fastapi") as log:
        assert ask(guarded(dependency), path="/guarded").status in (401, 403)
    assert log.kinds() == [FAILED]
    (record,) = log.of(FAILED)
    assert record["event.reason"] == "no valid credential was sent"
    assert record["audit.access.scheme"] in ("api_key", "basic", "bearer")


def test_an_optional_credential_that_is_not_sent_is_no_failure(hooked: Any, ask: Any) -> None:
    """A dependency that does not insist fails nobody."""
    with hooked("starlette", "fastapi") as log:
        app = guarded(HTTPBearer(auto_error=False))
        assert ask(app, path="/guarded").body == b'"nobody"'
    assert log.kinds() == ["audit.api.request"]


def test_a_wrong_key_is_a_failed_authentication_of_that_key(hooked: Any, ask: Any) -> None:
    """What the application refuses with 401 names the fingerprint of the key, in one record."""
    scheme = APIKeyHeader(name="X-API-Key")

    def check(key: str = Depends(scheme)) -> str:
        if key != SECRET:
            raise HTTPException(401)
        return key

    with hooked("starlette", "fastapi") as log:
        assert ask(guarded(check), path="/guarded", headers=[("X-API-Key", "wrong-key")]).status == 401
    assert log.kinds() == [FAILED]
    (record,) = log.of(FAILED)
    assert record["audit.access.scheme"] == "api_key"
    assert record["audit.access.key_id"].startswith("hmac:")
    assert "wrong-key" not in json.dumps(record)


@pytest.mark.parametrize(("password", "kind"), [(SECRET, SUCCEEDED), ("wrong", FAILED)])
def test_a_login_names_who_logs_in(hooked: Any, ask: Any, password: str, kind: str) -> None:
    """A login by form is one record of success or failure, of the user name that was given, without the password."""
    app = FastAPI()

    @app.post("/login")
    def login(form: OAuth2PasswordRequestForm = Depends()) -> str:  # noqa: B008
        if form.password != SECRET:
            raise HTTPException(400, "Incorrect username or password")
        return "a token"

    with hooked("starlette", "fastapi", policy=READABLE) as log:
        ask(
            app,
            "POST",
            "/login",
            headers=[("Content-Type", "application/x-www-form-urlencoded")],
            body=f"grant_type=password&username=carol&password={password}".encode(),
        )
    assert log.kinds() == [kind]
    (record,) = log.of(kind)
    assert (record["audit.actor.id"], record["audit.access.scheme"]) == ("carol", "password")
    assert password not in json.dumps(record)


class _Backend(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> Any:
        sent = conn.headers.get("X-Name")
        if sent == "mallory":
            raise AuthenticationError("who are you?")
        return (AuthCredentials(["analyst"]), SimpleUser(sent)) if sent else None


def test_authentication_by_a_middleware(hooked: Any, ask: Any) -> None:
    """Starlette's middleware: the first request of a user is told as a success, a refusal (status 400) as a failure."""

    async def endpoint(_: Any) -> Any:
        return PlainTextResponse("ok")

    middleware = [Middleware(AuthenticationMiddleware, backend=_Backend())]
    with hooked("starlette", "starlette-authentication") as log:
        app = Starlette(routes=[Route("/", endpoint)], middleware=middleware)
        for name in ("carol", "carol", "mallory"):
            ask(app, headers=[("X-Name", name)])
        ask(app)
    request = "audit.api.request"
    assert log.kinds() == [SUCCEEDED, request, request, FAILED, request]
    assert log.of(SUCCEEDED)[0]["audit.access.scheme"] == "session"
    assert log.of(SUCCEEDED)[0]["user.roles"] == ["analyst"]
    assert log.of(FAILED)[0]["error.type"] == "AuthenticationError"
    assert log.of(FAILED)[0]["http.response.status_code"] == 400
    assert log.of(request)[2]["audit.actor.method"] == "anonymous"


def test_broken_hooks_reach_nobody(hooked: Any, ask: Any, broken: str) -> None:
    """With every hook broken services answer as ever, and the trail says what failed."""

    async def endpoint(_: Any) -> Any:
        return PlainTextResponse("ok")

    middleware = [Middleware(AuthenticationMiddleware, backend=_Backend())]
    with hooked("starlette", "starlette-authentication", "fastapi") as log:
        app = Starlette(routes=[Route("/", endpoint)], middleware=middleware)
        assert ask(app, headers=[("X-Name", "carol")]).body == b"ok"
        assert (
            ask(guarded(HTTPBearer()), path="/guarded", headers=[("Authorization", "Bearer x")]).status == 200
        )
        assert ask(guarded(HTTPBearer()), path="/guarded").status in (401, 403)
    recorded = {record.get("audit.component") for record in log.records}
    assert {"capture.libraries.fastapi", "capture.libraries.starlette_authentication"} <= recorded
