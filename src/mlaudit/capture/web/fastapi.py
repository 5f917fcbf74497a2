"""FastAPI's security dependencies: which credential an application received, and which was missing.

They extract a credential from a request and do not check it; the application does. A credential therefore counts as
accepted if the request that carried it was not refused, and as missing if the dependency itself refuses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.credentials import Credential, Failure
from mlaudit.capture.hooks import Hooks
from mlaudit.capture.request_context import open_trail
from mlaudit.capture.web.authentication import API_KEY, accepted, fingerprint, rejected, token_digest
from mlaudit.event import Actor

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.fastapi"
_LONGEST: Final = 256
_USERNAME: Final = re.compile(r'\busername="([^"]{1,256})"')
_DEPENDENCIES: Final = (
    "HTTPBasic", "HTTPBearer", "HTTPDigest", "APIKeyCookie", "APIKeyHeader", "APIKeyQuery", "OAuth2",
    "OAuth2PasswordBearer", "OAuth2AuthorizationCodeBearer", "OpenIdConnect",
)  # fmt: skip


class FastAPIIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "fastapi"
    module: ClassVar[str] = "fastapi.security"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the security dependencies and the form of a login."""
        from fastapi import security

        if self._hooks.are_set:
            return
        for name in _DEPENDENCIES:
            self._hooks.around(getattr(security, name), "__call__", _asking, when=_is_in_request)
        self._hooks.around(security.OAuth2PasswordRequestForm, "__init__", _logging_in, when=_is_in_request)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        self._hooks.undo()


def _is_in_request(_: Call) -> bool:
    return open_trail() is not None


def _asking(pipeline: Pipeline, call: Call) -> Audit:
    from starlette.exceptions import HTTPException

    outcome = yield
    scheme = _scheme(call.instance)
    if isinstance(outcome.error, HTTPException):
        rejected(pipeline, Failure(scheme, type(outcome.error).__name__, "no valid credential was sent"))
    elif outcome.error is None and outcome.result:
        accepted(pipeline, _credential(scheme, outcome.result, pipeline, _parameter(call.instance)))


def _logging_in(pipeline: Pipeline, call: Call) -> Audit:
    yield
    username = getattr(call.instance, "username", None)
    if isinstance(username, str) and username:
        actor = Actor(username[:_LONGEST], method="credential")
        accepted(pipeline, Credential("password", actor=actor))


def _scheme(dependency: Any) -> str:
    model = getattr(dependency, "model", None)
    kind = getattr(model, "type_", None)
    kind = str(getattr(kind, "value", kind))
    if kind == "apiKey":
        return API_KEY
    return str(getattr(model, "scheme", "bearer"))[:_LONGEST].lower() if kind == "http" else "bearer"


def _parameter(dependency: Any) -> str:
    """The parameter of the query that holds the credential, "" when it is sent in another way."""
    model = getattr(dependency, "model", None)
    place = getattr(model, "in_", None)
    return str(getattr(model, "name", "")) if getattr(place, "value", place) == "query" else ""


def _credential(scheme: str, result: Any, pipeline: Pipeline, parameter: str) -> Credential:
    username = getattr(result, "username", None)
    if isinstance(username, str):
        return Credential("basic", actor=Actor(username[:_LONGEST], method="credential"))
    secret = getattr(result, "credentials", result)
    if not isinstance(secret, str):
        return Credential(scheme)
    if scheme == "digest":  # different in each request
        named = _USERNAME.search(secret)
        return Credential(scheme, actor=Actor(named[1], method="credential") if named else None)
    # OAuth2 and OpenIdConnect themselves return the whole header.
    if scheme == "bearer" and secret[:7].lower() == "bearer ":
        secret = secret[7:]
    key = fingerprint(secret.encode("utf-8", "surrogatepass"), pipeline.policy.pseudonyms.of)
    actor = Actor(f"credential:{key}", method="credential")
    return Credential(scheme, key_id=key, actor=actor, digest=token_digest(secret), parameter=parameter)
