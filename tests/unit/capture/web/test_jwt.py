"""Tokens that PyJWT verifies: what the trail says of them, alone and inside of a request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mlaudit.capture.instrumentor import deactivate
from mlaudit.capture.web import authentication
from mlaudit.catalog.names import ACCESS_AUTHENTICATION_FAILED, ACCESS_AUTHENTICATION_SUCCEEDED, ACCESS_DENIED

if TYPE_CHECKING:
    from collections.abc import Callable

SUCCEEDED = ACCESS_AUTHENTICATION_SUCCEEDED
FAILED = ACCESS_AUTHENTICATION_FAILED
KEY = "a key of a test that is long enough for HS256"
CLAIMS = {"sub": "u-17", "iss": "https://login.example", "preferred_username": "carol", "roles": ["analyst"]}


def token(claims: dict[str, Any] | None = None, key: str = KEY, **more: Any) -> str:
    """A signed token."""
    return jwt.encode({**(claims or CLAIMS), **more}, key, "HS256", headers={"kid": "key-1"})


def verify(encoded: str, **more: Any) -> dict[str, Any]:
    """As a service verifies it."""
    return jwt.decode(encoded, KEY, algorithms=["HS256"], **more)


def service(statuses: dict[str, int] | None = None) -> Starlette:
    """Answers with the subject of the bearer token; with ``statuses[reason]`` when it is not accepted."""

    async def whoami(request: Any) -> Any:
        sent = request.headers["authorization"].partition(" ")[2]
        try:
            claims = verify(sent)
        except jwt.InvalidTokenError:
            status = (statuses or {}).get("bad", 401)
            if status >= 400:
                raise HTTPException(status) from None
            return PlainTextResponse("anonymous")
        if request.url.path == "/admin":
            raise HTTPException(403)
        return PlainTextResponse(claims["sub"])

    return Starlette(routes=[Route("/whoami", whoami), Route("/admin", whoami)])


def bearer(encoded: str) -> list[tuple[str, str]]:
    """As a request carries it."""
    return [("Authorization", f"Bearer {encoded}")]


def test_the_first_use_of_a_token_is_recorded_and_later_ones_are_not(hooked: Any) -> None:
    """Outside of a request a verified token is one record for an actor, with issuer, key and roles, not the token."""
    with hooked("jwt") as log:
        for _ in range(3):
            assert verify(token()) == CLAIMS
        verify(token(sub="u-18"))
    first, second = log.of(SUCCEEDED)
    assert first["audit.access.scheme"] == "jwt"
    assert first["audit.access.issuer"] == "https://login.example"
    assert first["audit.access.key_id"] == "key-1"
    assert first["user.roles"] == ["analyst"]
    assert first["audit.actor.method"] == "authenticated"
    assert first["audit.actor.id"].startswith("hmac:")
    assert first["audit.actor.id"] != second["audit.actor.id"]
    assert "eyJhbGci" not in json.dumps(log.records)


def test_a_use_is_told_again_when_the_window_is_over(hooked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour later the next use is a record again and says how many were not."""
    with hooked("jwt") as log:
        for _ in range(3):
            verify(token())
        monkeypatch.setattr(authentication._uses._recorded, "_seconds", 0)
        verify(token())
    assert [record.get("event.reason") for record in log.of(SUCCEEDED)] == [
        None,
        "used 2 times since this was last recorded",
    ]


@pytest.mark.parametrize(
    ("encoded", "more", "error"),
    [
        (token(exp=1), {}, "ExpiredSignatureError"),
        (token(), {"audience": "us"}, "MissingRequiredClaimError"),
        (token(aud="them"), {"audience": "us"}, "InvalidAudienceError"),
        (token(), {"issuer": "https://other.example"}, "InvalidIssuerError"),
        (token(key="another key that is also long enough for it"), {}, "InvalidSignatureError"),
        ("not a token", {}, "DecodeError"),
    ],
)
def test_a_token_that_is_not_accepted(hooked: Any, encoded: str, more: dict[str, Any], error: str) -> None:
    """A failure names the class of the error; nobody is named, since nothing in such a token is true."""
    with hooked("jwt") as log, pytest.raises(jwt.InvalidTokenError):
        verify(encoded, **more)
    (record,) = log.of(FAILED)
    assert (record["error.type"], record["audit.access.scheme"]) == (error, "jwt")
    assert (record["event.outcome"], record["audit.actor.method"]) == ("failure", "anonymous")
    assert encoded not in json.dumps(log.records)
    assert "u-17" not in json.dumps(log.records)


def test_looking_into_a_token_authenticates_nobody(hooked: Any) -> None:
    """Without verification of the signature there is no record; an error of the program is none either."""
    with hooked("jwt") as log:
        jwt.decode(token(), options={"verify_signature": False})
        with pytest.raises(TypeError):
            jwt.decode(token(), KEY, algorithms=["HS256"], audience=17)  # type: ignore[arg-type]
    assert log.kinds() == []


def test_a_request_is_of_whom_its_token_names(hooked: Any, ask: Any) -> None:
    """The request's record names the token's subject, scheme, issuer and key; the first one is told beside it, once."""
    with hooked("starlette", "jwt") as log:
        app = service()
        for _ in range(2):
            assert ask(app, path="/whoami", headers=bearer(token())).body == b"u-17"
    assert log.kinds() == [SUCCEEDED, "audit.api.request", "audit.api.request"]
    succeeded, request = log.of(SUCCEEDED)[0], log.of("audit.api.request")[0]
    for record in (succeeded, request):
        assert record["audit.access.scheme"] == "jwt"
        assert record["audit.access.issuer"] == "https://login.example"
        assert record["audit.access.key_id"] == "key-1"
        assert record["audit.actor.method"] == "authenticated"
        assert record["url.path"] == "/whoami"
    assert succeeded["audit.actor.id"] == request["audit.actor.id"]
    assert succeeded["audit.guarantee"] == "durable"


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_refused_token_is_one_record(hooked: Any, ask: Any, status: int) -> None:
    """Whatever status a service answers a bad token with, it is one failed authentication with the error's class."""
    with hooked("starlette", "jwt") as log:
        assert ask(service({"bad": status}), path="/whoami", headers=bearer(token(exp=1))).status == status
    assert log.kinds() == [FAILED]
    (record,) = log.of(FAILED)
    assert record["error.type"] == "ExpiredSignatureError"
    assert record["event.reason"] == "the token was not accepted"
    assert record["audit.access.scheme"] == "jwt"
    assert record["http.response.status_code"] == status


def test_a_bad_token_that_a_service_overlooks_is_told_all_the_same(hooked: Any, ask: Any) -> None:
    """A request that goes on after a failed verification has its own record and one of the failure."""
    with hooked("starlette", "jwt") as log:
        assert ask(service({"bad": 200}), path="/whoami", headers=bearer(token(exp=1))).body == b"anonymous"
    assert log.kinds() == [FAILED, "audit.api.request"]
    assert log.of(FAILED)[0]["event.reason"] == "the token was not accepted; the request went on without it"


def test_a_known_user_who_may_not_is_denied(hooked: Any, ask: Any) -> None:
    """403 after a verified token is a denial of a known actor, in one record."""
    with hooked("starlette", "jwt") as log:
        assert ask(service(), path="/admin", headers=bearer(token())).status == 403
    assert log.kinds() == [ACCESS_DENIED]
    (record,) = log.of(ACCESS_DENIED)
    assert record["audit.actor.method"] == "authenticated"
    assert record["user.roles"] == ["analyst"]


def test_a_flask_service_is_no_different(hooked: Any) -> None:
    """Whatever serves a request, its record names the token's subject, and a bad token is one record."""
    flask = pytest.importorskip("flask")
    app = flask.Flask("service")

    @app.get("/whoami")
    def whoami() -> str:
        try:
            return str(verify(flask.request.headers["Authorization"].partition(" ")[2])["sub"])
        except jwt.InvalidTokenError:
            flask.abort(401)

    with hooked("flask", "jwt") as log:
        client = app.test_client()
        assert client.get("/whoami", headers=dict(bearer(token()))).text == "u-17"
        assert client.get("/whoami", headers=dict(bearer(token(exp=1)))).status_code == 401
    assert log.kinds() == [SUCCEEDED, "audit.api.request", FAILED]
    assert log.of("audit.api.request")[0]["audit.access.issuer"] == "https://login.example"
    assert log.of(FAILED)[0]["error.type"] == "ExpiredSignatureError"


@pytest.mark.parametrize(
    ("claims", "actor", "kind", "roles"),
    [
        ({"client_id": "batch", "scope": "read write"}, "batch", "service", None),
        ({"sub": "a", "realm_access": {"roles": ["r"]}}, "a", "user", ["r"]),
        ({"sub": "a", "scope": "read write"}, "a", "user", ["read", "write"]),
        ({"email": "a@b.example"}, "a@b.example", "user", None),
        ({"iat": 1}, "test-service", "service", None),
    ],
)
def test_whom_the_claims_name(
    hooked: Any, claims: dict[str, Any], actor: str, kind: str, roles: list[str] | None
) -> None:
    """The subject, else another name; a program is a service; a token that names nobody is the service's own."""
    readable = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
redact: []
rules: [{name: all, level: metadata}]
"""
    with hooked("jwt", policy=readable) as log:
        verify(token(claims) if "sub" in claims else jwt.encode(claims, KEY, "HS256"))
    (record,) = log.of(SUCCEEDED)
    assert (record["audit.actor.id"], record["audit.actor.type"]) == (actor, kind)
    assert record.get("user.roles") == roles


def test_a_broken_hook_reaches_nobody(hooked: Any, broken: str, ask: Any) -> None:
    """With every hook broken tokens are verified and refused as ever, and the trail says what failed."""
    with hooked("starlette", "jwt") as log:
        assert verify(token()) == CLAIMS
        with pytest.raises(jwt.ExpiredSignatureError):
            verify(token(exp=1))
        assert ask(service(), path="/whoami", headers=bearer(token())).body == b"u-17"
    assert any(record.get("audit.component") == "capture.libraries.jwt" for record in log.records)


def test_the_hook_is_taken_out_again(hooked: Any) -> None:
    """Afterwards PyJWT is what it was."""
    deactivate()  # what an earlier test may have left on
    before: Callable[..., Any] = jwt.PyJWT.decode_complete
    with hooked("jwt"):
        assert jwt.PyJWT.decode_complete is not before
    assert jwt.PyJWT.decode_complete is before
