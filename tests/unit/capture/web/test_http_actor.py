"""Who sent a request, from the most trustworthy source that knows."""

from __future__ import annotations

from base64 import b64encode
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.authentication import AuthCredentials, SimpleUser, UnauthenticatedUser
from starlette.datastructures import State

from mlaudit.capture.request_context import RequestTrail, current_actor
from mlaudit.capture.web.http_actor import ANONYMOUS, find_actor
from mlaudit.event import SERVICE, Actor
from mlaudit.policy.redact import Pseudonyms

_pseudonym = Pseudonyms(b"key").of


def actor_of(
    scope: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    trail: RequestTrail | None = None,
    header: str = "",
) -> Actor:
    """The actor of a request with this scope and these headers."""
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    whole = {"headers": pairs, **(scope or {})}
    return find_actor(whole, dict(pairs), trail or RequestTrail(), header, _pseudonym)


def basic(text: str) -> str:
    """An HTTP Basic credential."""
    return "Basic " + b64encode(text.encode()).decode()


def test_nobody_is_anonymous() -> None:
    """Without any source the actor is anonymous, not the process."""
    assert actor_of() is ANONYMOUS


def test_the_order_of_trust() -> None:
    """Each source is used only when the ones before it find no actor."""
    trail = RequestTrail()
    trail.actor = Actor("stated")
    headers = {"X-User": "proxy", "Authorization": basic("basic:x"), "X-API-Key": "k"}
    scope: dict[str, Any] = {
        "user": SimpleUser("session"),
        "auth": AuthCredentials(["admin"]),
        "state": {"user": "state"},
    }
    found = [actor_of(scope, headers, trail, "X-User")]
    del scope["user"]
    found.append(actor_of(scope, headers, trail, "X-User"))
    found.append(actor_of(scope, headers, None, "X-User"))
    del scope["state"]
    found.append(actor_of(scope, headers, None, "X-User"))
    found.append(actor_of(scope, headers))
    del headers["Authorization"]
    found.append(actor_of(scope, headers))
    assert [(actor.id[:11], actor.method) for actor in found] == [
        ("session", "authenticated"),
        ("stated", "context"),
        ("state", "context"),
        ("proxy", "header"),
        ("basic", "credential"),
        ("credential:", "credential"),
    ]
    assert found[0].roles == ("admin",)


def test_an_unauthenticated_user_counts_for_nothing() -> None:
    """Starlette puts a user object into every scope; only an authenticated one is an actor."""
    assert actor_of({"user": UnauthenticatedUser()}, {"Authorization": basic("bob:x")}).id == "bob"


def test_the_actor_of_the_block_counts_inside_a_request() -> None:
    """``mlaudit.actor(...)`` around a block is used where the request itself states no actor."""
    token = current_actor.set(Actor("batch", SERVICE))
    try:
        assert actor_of().id == "batch"
    finally:
        current_actor.reset(token)


class _Awkward:
    """A user class whose properties raise, as Starlette's base class does."""

    is_authenticated = True

    @property
    def identity(self) -> str:
        raise NotImplementedError

    @property
    def display_name(self) -> str:
        return "dora"


def test_a_user_without_identity_is_known_by_its_name() -> None:
    """A property that is not implemented is passed over."""
    assert actor_of({"user": _Awkward()}).id == "dora"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("carol", "carol"),
        ({"sub": "u-17", "roles": ["analyst"]}, "u-17"),
        (SimpleNamespace(username="carol"), "carol"),
        (SimpleNamespace(id=17), "17"),
        (Actor("svc", SERVICE), "svc"),
        (SimpleNamespace(username="carol", is_authenticated=False), "anonymous"),
        (SimpleNamespace(), "anonymous"),
        (True, "anonymous"),
        ("", "anonymous"),
    ],
)
def test_what_applications_put_into_the_request_state(user: object, expected: str) -> None:
    """A text, a mapping of claims or an object with a name is an actor; anything else is nobody."""
    assert actor_of({"state": {"user": user}}).id == expected
    assert actor_of({"state": State({"user": user})}).id == expected


def test_a_bearer_token_is_known_by_a_keyed_hash_only() -> None:
    """The same credential gives the same actor, another key another one, and the credential is not in it."""
    first = actor_of(headers={"Authorization": "Bearer s3cret-token"})
    again = actor_of(headers={"Authorization": "bearer s3cret-token"})
    other_key = find_actor(
        {"headers": []},
        {b"authorization": b"Bearer s3cret-token"},
        RequestTrail(),
        "",
        Pseudonyms(b"other").of,
    )
    assert first.id == again.id
    assert first.id.startswith("credential:hmac:")
    assert "s3cret" not in first.id
    assert other_key.id != first.id


@pytest.mark.parametrize("credential", ["Basic !!!", "Basic bm9jb2xvbg==", "Basic ", "Basic", "Basic OnB3"])
def test_a_broken_basic_credential_is_hashed_as_a_whole(credential: str) -> None:
    """What is no user name and password is a credential like any other, and never copied."""
    assert actor_of(headers={"Authorization": credential}).id.startswith("credential:hmac:")


def test_a_basic_user_name_need_not_be_utf8() -> None:
    """Old clients send Latin-1."""
    header = "Basic " + b64encode("jürgen:x".encode("latin-1")).decode()
    assert actor_of(headers={"Authorization": header}).id == "jürgen"


def test_a_proxy_header_that_comes_twice_is_not_trusted() -> None:
    """A client that sends the header past a proxy which appends must not choose who it is."""
    pairs = [(b"x-user", b"admin"), (b"x-user", b"mallory")]
    actor = find_actor({"headers": pairs}, dict(reversed(pairs)), RequestTrail(), "X-User", _pseudonym)
    assert actor is ANONYMOUS


def test_long_names_are_cut() -> None:
    """Whoever sends a request cannot make the record large."""
    assert len(actor_of(headers={"Authorization": basic("a" * 5000 + ":x")}).id) == 256
