"""Who sent a request: the first answer of the sources below, the most trustworthy first.

1. ``scope["user"]`` of an authentication middleware that says it is authenticated;
2. what the application stated with ``mlaudit.actor(...)``;
3. ``request.state.user`` (or ``request.state.actor``), set by the application;
4. the subject of a token that the application verified;
5. the header that a trusted proxy sets, when ``MLAUDIT_ACTOR_HEADER`` names one;
6. the credential of the request: the user name of HTTP Basic or of a login, else a keyed hash; never the
   credential itself;
7. otherwise ``anonymous``.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.request_context import RequestTrail, current_actor
from mlaudit.capture.web.authentication import fingerprint
from mlaudit.event import SERVICE, USER, Actor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlaudit.capture.credentials import Credential

ANONYMOUS: Final = Actor("anonymous", method="anonymous")
_LONGEST: Final = 256
_IDENTITIES: Final = ("identity", "username", "sub", "id", "user_id", "email", "name")
_MISSING: Final = object()


def find_actor(
    scope: Mapping[str, Any],
    headers: Mapping[bytes, bytes],
    trail: RequestTrail,
    actor_header: str,
    pseudonym: Callable[[str], str],
    credential: Credential | None = None,
) -> Actor:
    """The actor of a request whose application has run.

    Args:
        scope: the request in the form of an ASGI scope, as the application left it.
        headers: lower-case names to the first value of each.
        trail: what hooks inside the request left.
        actor_header: name of the trusted proxy's header, empty when there is none.
        pseudonym: the policy's keyed hash.
        credential: of the request, as ``authentication.of_request`` found it.

    Returns:
        The actor; ``ANONYMOUS`` when it is unknown.
    """
    user = scope.get("user")
    if user is not None and getattr(user, "is_authenticated", False):  # 1
        actor = _authenticated(user, scope.get("auth"))
        if actor is not None:
            return actor
    stated = trail.actor or current_actor.get()  # 2
    if stated is not None:
        return stated
    state = scope.get("state")
    if state:  # 3
        known = _of_state(state)
        if known is not None:
            return known
    named = credential.actor if credential is not None else None
    if credential is not None and credential.verified and named is not None:  # 4
        return named
    if actor_header:  # 5
        wanted = actor_header.lower().encode("latin-1")
        value = headers.get(wanted)
        if value and _only_once(scope["headers"], wanted):
            return Actor(_text(value), method="header")
    if named is not None:  # 6
        return named
    authorization = headers.get(b"authorization")
    if authorization:
        return _of_authorization(authorization, pseudonym)
    key = headers.get(b"x-api-key")
    if key:
        return _hashed(key, pseudonym)
    return ANONYMOUS  # 7


def _authenticated(user: Any, auth: Any) -> Actor | None:
    identity = _identity(user)
    if identity is None:
        return None
    display = _attribute(user, "display_name")
    name = display if display and display != identity else None
    scopes = getattr(auth, "scopes", None) or ()
    return Actor(identity, _type(user), name, tuple(str(scope) for scope in scopes), "authenticated")


def _of_state(state: Any) -> Actor | None:
    # Uvicorn gives a dict, Starlette's Request turns it into an attribute object that writes through to it.
    get = state.get if isinstance(state, Mapping) else getattr(state, "_state", {}).get
    for name in ("actor", "user"):
        user = get(name)
        if user is None or user is False:
            continue
        if isinstance(user, Actor):
            return user
        if getattr(user, "is_authenticated", True) is False:
            continue
        identity = user if isinstance(user, str) else _identity(user)
        if identity:
            roles = _item(user, "roles")
            listed = tuple(str(role) for role in roles) if isinstance(roles, (list, tuple, set)) else ()
            return Actor(identity[:_LONGEST], _type(user), None, listed, "context")
    return None


def _identity(user: Any) -> str | None:
    for name in _IDENTITIES:
        value = _attribute(user, name)
        if value:
            return value
    return _attribute(user, "display_name")


def _attribute(user: Any, name: str) -> str | None:
    value = _item(user, name)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        value = str(value) if type(value).__name__ == "UUID" else None
    return str(value)[:_LONGEST] if value not in (None, "") else None


def _item(user: Any, name: str) -> Any:
    if isinstance(user, Mapping):
        return user.get(name)
    try:
        value = getattr(user, name, _MISSING)
    except Exception:  # noqa: BLE001 - a property of the application's class; Starlette's base class raises here
        return None
    return None if value is _MISSING else value


def _type(user: Any) -> str:
    kind = _item(user, "actor_type")
    return SERVICE if kind == SERVICE else USER


def _of_authorization(credential: bytes, pseudonym: Callable[[str], str]) -> Actor:
    scheme, _, rest = credential.partition(b" ")
    if scheme.lower() == b"basic":
        try:
            name, colon, _ = binascii.a2b_base64(rest.strip()).partition(b":")
        except (binascii.Error, ValueError):
            name, colon = b"", b""
        if name and colon:
            return Actor(_text(name), method="credential")
    return _hashed(rest.strip() or credential, pseudonym)


def _hashed(credential: bytes, pseudonym: Callable[[str], str]) -> Actor:
    return Actor(f"credential:{fingerprint(credential, pseudonym)}", method="credential")


def _only_once(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bool:
    # A second one was sent by the client past a proxy that appends: then it is unknown which is the proxy's.
    return sum(1 for name, _ in headers if name.lower() == wanted) == 1


def _text(value: bytes) -> str:
    try:
        return value.decode()[:_LONGEST]
    except UnicodeDecodeError:
        return value.decode("latin-1")[:_LONGEST]
