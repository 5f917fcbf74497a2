"""PyJWT: every token that a program verifies, and the outcome.

``PyJWT.decode_complete`` is what ``jwt.decode`` and ``jwt.decode_complete`` come down to. Tokens that are only looked
into (``verify_signature: False``) authenticate no user and are ignored. Of a verified token the subject, the issuer,
the roles and the id of the signing key are used; of one that failed only the class of the error: nothing in it is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.credentials import Credential, Failure
from mlaudit.capture.hooks import Hooks
from mlaudit.capture.web.authentication import JWT, accepted, rejected, token_digest
from mlaudit.event import SERVICE, USER, Actor

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.jwt"
MAX_ROLES: Final = 50
_LONGEST: Final = 256
# Claims that name the subject, in this order; the last three name a program, not a person (RFC 8693, RFC 9068, Entra
# ID).
_SUBJECTS: Final = (
    ("sub", USER), ("username", USER), ("email", USER), ("client_id", SERVICE), ("azp", SERVICE), ("appid", SERVICE),
)  # fmt: skip
_NAMES: Final = ("preferred_username", "name", "email")
_ROLES: Final = ("roles", "groups", "permissions", "scp", "scope")


class JwtIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "jwt"
    module: ClassVar[str] = "jwt"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the verification of tokens."""
        from jwt import PyJWT

        if not self._hooks.are_set:
            self._hooks.around(PyJWT, "decode_complete", _verifying, when=_verifies)

    def uninstrument(self) -> None:
        """Puts the original back."""
        self._hooks.undo()


def _verifies(call: Call) -> bool:
    options = call.argument(3, "options")
    return not (isinstance(options, Mapping) and options.get("verify_signature", True) is False)


def _verifying(pipeline: Pipeline, call: Call) -> Audit:
    from jwt import InvalidTokenError

    outcome = yield
    if outcome.error is None:
        token = call.argument(0, "jwt", "")
        accepted(pipeline, _credential(outcome.result, token))
    elif isinstance(outcome.error, InvalidTokenError):
        # Any other exception is an error of the program, not of the token.
        rejected(pipeline, Failure(JWT, type(outcome.error).__name__, "the token was not accepted"))


def _credential(decoded: Mapping[str, Any], token: Any) -> Credential:
    claims: Any = decoded["payload"]
    header: Any = decoded["header"]
    if not isinstance(claims, Mapping):
        claims = {}
    return Credential(
        JWT,
        issuer=_text(claims.get("iss")),
        key_id=_text(header.get("kid")),
        actor=actor_of(claims),
        verified=True,
        digest=token_digest(token) if isinstance(token, str | bytes) else "",
    )


def actor_of(claims: Mapping[str, Any]) -> Actor | None:
    """The actor in the claims of a verified token; None without one."""
    for claim, kind in _SUBJECTS:
        if identity := _text(claims.get(claim)):
            name = next((found for other in _NAMES if (found := _text(claims.get(other)))), "")
            named = name if name and name != identity else None
            return Actor(identity, kind, named, _roles(claims), "authenticated")
    return None


def _roles(claims: Mapping[str, Any]) -> tuple[str, ...]:
    realm = claims.get("realm_access")  # Keycloak
    candidates = [realm.get("roles") if isinstance(realm, Mapping) else None]
    candidates += [claims.get(name) for name in _ROLES]
    for found in candidates:
        listed = found.split() if isinstance(found, str) else found
        if isinstance(listed, list | tuple) and listed:
            return tuple(text for role in listed[:MAX_ROLES] if (text := _text(role)))
    return ()


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)[:_LONGEST]
