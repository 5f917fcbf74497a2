"""Requests that change roles and credentials: whose, before and after."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mlaudit.capture.web import access_change
from mlaudit.catalog.names import ACCESS_CREDENTIAL_CHANGED, ACCESS_ROLE_CHANGED
from mlaudit.testing import capture

ROLE, CREDENTIAL = ACCESS_ROLE_CHANGED, ACCESS_CREDENTIAL_CHANGED


@pytest.fixture(autouse=True)
def _nothing_seen_before() -> None:
    access_change._last.clear()


def service() -> Starlette:
    """Accepts whatever is asked for, but nothing of mallory's."""

    async def endpoint(request: Any) -> Any:
        await request.body()
        return PlainTextResponse("done", 403 if "mallory" in request.url.path else 200)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(routes=[Route("/{path:path}", endpoint, methods=methods)])


def test_roles_before_and_after(ask: Any) -> None:
    """PUT replaces, POST adds, DELETE takes away; what was there before is known from the last change on."""
    app = service()
    with capture() as log:
        ask(app, "PUT", "/users/7/roles", body=b'{"roles": ["analyst", "approver"]}')
        ask(app, "POST", "/users/7/roles", body=b'{"role": "admin"}')
        ask(app, "DELETE", "/users/7/roles/approver")
        ask(app, "PUT", "/users/8/roles", body=b'["analyst"]')
    assert [(one.get("audit.access.before"), one.get("audit.access.after")) for one in log.of(ROLE)] == [
        (None, ["analyst", "approver"]),
        (["analyst", "approver"], ["analyst", "approver", "admin"]),
        (["analyst", "approver", "admin"], ["analyst", "admin"]),
        (None, ["analyst"]),
    ]
    records = log.of(ROLE)
    assert {one["audit.target.type"] for one in records} == {"user"}
    assert records[0]["audit.target.id"].startswith("hmac:")
    assert records[0]["audit.target.id"] == records[2]["audit.target.id"] != records[3]["audit.target.id"]
    assert {one["audit.guarantee"] for one in records} == {"durable"}


def test_a_change_that_was_refused_is_a_denial_and_changes_nothing(ask: Any) -> None:
    """403 stays a denial that names what was asked for; the next change does not take it for what was there."""
    with capture() as log:
        ask(service(), "PUT", "/users/mallory/roles", body=b'{"roles": ["admin"]}')
    assert log.kinds() == ["audit.access.denied"]
    assert log.of("audit.access.denied")[0]["event.reason"] == f"the request asked for {ROLE}"
    assert not access_change._last


def test_ticket_and_approver_of_a_change(ask: Any) -> None:
    """The headers that the policy names say under which ticket and by whose approval."""
    policy = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
change: {ticket_header: X-Change-Ticket, approver_header: X-Change-Approver}
routes: [{methods: PUT, path: /users/*/roles, kind: audit.access.role.changed}]
rules: [{name: all, level: metadata}]
"""
    headers = [("X-Change-Ticket", "CHG-9"), ("X-Change-Approver", "bob")]
    with capture(policy) as log:
        ask(service(), "PUT", "/users/7/roles", headers=headers, body=b'{"roles": ["analyst"]}')
    (record,) = log.of(ROLE)
    assert record["ml.change.ticket"] == "CHG-9"
    assert record["ml.change.approver"].startswith("hmac:")
    assert record["ml.change.in_window"] is True


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api-keys"),
        ("DELETE", "/api-keys/17"),
        ("POST", "/users/7/api-keys"),
        ("PUT", "/users/7/password"),
        ("POST", "/tokens"),
        ("DELETE", "/users/7/tokens/1"),
    ],
)
def test_credentials_that_are_made_and_revoked(ask: Any, method: str, path: str) -> None:
    """The usual routes are known to the built-in policy; nothing of the credential is recorded."""
    with capture() as log:
        ask(service(), method, path, body=b'{"password": "hunter2"}')
    assert log.kinds() == [CREDENTIAL]
    (record,) = log.of(CREDENTIAL)
    assert record["audit.target.type"] == ("user" if "users" in path else "route")
    assert "hunter2" not in json.dumps(record)


@pytest.mark.parametrize("body", [b"", b"no JSON", b"17", b'{"roles": 17}', b'{"other": []}', b"[" * 5000])
def test_a_body_that_names_no_roles(ask: Any, body: bytes) -> None:
    """The change is recorded without what comes after it."""
    with capture() as log:
        ask(service(), "PUT", "/users/7/roles", body=body)
    (record,) = log.of(ROLE)
    assert "audit.access.after" not in record
    assert "audit.failed" not in record


@pytest.mark.parametrize("path", ["/login", "/token", "/oauth/token"])
@pytest.mark.parametrize(("status", "kind"), [(200, "succeeded"), (401, "failed"), (400, "failed")])
def test_the_usual_logins_are_known(ask: Any, path: str, status: int, kind: str) -> None:
    """A login is one record, of success or of failure."""

    async def login(_: Any) -> Any:
        return PlainTextResponse("", status)

    with capture() as log:
        ask(Starlette(routes=[Route(path, login, methods=["POST"])]), "POST", path)
    assert log.kinds() == [f"audit.access.authentication.{kind}"]
