"""Authentication attempts: who, with which credential; what hooks see is joined with the request it belongs to.

One attempt is one record. Inside a request, hooks only add what they saw to its trail; the request's own record
carries scheme, issuer and key id, and a refused one is ``audit.access.authentication.failed`` with the reason. Two
additional records exist:

* ``authentication.failed`` for a credential that failed in a request that continued nevertheless;
* ``authentication.succeeded`` for the first use of a credential by an actor in this process, again every
  ``WINDOW_SECONDS``. One for every request would repeat the requests' own records.

Never a credential itself: a fingerprint is the policy's keyed hash of the credential's SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from mlaudit.capture.credentials import Credential, Failure
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import open_trail
from mlaudit.catalog.names import ACCESS_AUTHENTICATION_FAILED, ACCESS_AUTHENTICATION_SUCCEEDED, ACCESS_DENIED
from mlaudit.event import FAILURE, SUCCESS, Actor, AuditEvent, Target
from mlaudit.policy.secrets import REMOVED
from mlaudit.safety.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.request_context import RequestTrail
    from mlaudit.pipeline.pipeline import Pipeline

JWT: Final = "jwt"
API_KEY: Final = "api_key"
WINDOW_SECONDS: Final = 3600
MAX_REMEMBERED: Final = 4096
MAX_NOTED: Final = 16
# Any other first word of an Authorization header may be the credential itself.
_SCHEMES: Final = frozenset({"basic", "bearer", "digest", "negotiate", "ntlm", "dpop", "hoba", "mutual"})
# Their header contains a name or a proof, and differs in each request.
_OF_ONE_REQUEST: Final = _SCHEMES - {"bearer", "dpop"}
_REFUSED: Final = frozenset({400, 401, 403})
_OF_THE_REQUEST: Final = (
    "client.address", "source.ip", "source.port", "user_agent.original", "http.request.method", "http.request.id",
    "http.response.status_code", "http.route", "url.path", "url.scheme", "url.domain",
)  # fmt: skip


def fingerprint(credential: bytes, pseudonym: Callable[[str], str]) -> str:
    """The keyed hash of a credential: stable for the same credential, and useless without the key."""
    # Hashed before it is keyed, because the policy remembers what it has keyed: a credential must not stay in memory.
    return pseudonym(f"credential {hashlib.sha256(credential).hexdigest()}")


def token_digest(token: str | bytes) -> str:
    """What ``Credential.digest`` holds of a token."""
    raw = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else bytes(token)
    return hashlib.sha256(raw).hexdigest()


def accepted(pipeline: Pipeline, credential: Credential) -> None:
    """A credential was verified, or (``verified`` false) passed to an application."""
    trail = open_trail()
    if trail is not None:
        if credential not in trail.credentials and len(trail.credentials) < MAX_NOTED:
            trail.credentials += (credential,)
    elif credential.verified:
        event = _first_use(pipeline, credential, credential.actor or pipeline.actor)
        if event is not None:
            pipeline.emit(originate(event))


def rejected(pipeline: Pipeline, failure: Failure) -> None:
    """A credential was checked and not accepted."""
    trail = open_trail()
    if trail is None:
        service = Target("service", pipeline.settings.service_name)
        fields = failure.fields()
        pipeline.emit(
            originate(
                AuditEvent(ACCESS_AUTHENTICATION_FAILED, FAILURE, failure.actor or _NOBODY, service, fields)
            )
        )
    elif len(trail.failures) < MAX_NOTED:
        trail.failures += (failure,)


_NOBODY: Final = Actor("anonymous", method="anonymous")
_BASIC: Final = Credential("basic")


def of_request(
    trail: RequestTrail, authorization: bytes | None, api_key: bytes | None, pseudonym: Callable[[str], str]
) -> Credential | None:
    """The credential of a request: a verified one before a presented one before what its headers show.

    Of several verified tokens it is the one that the request was sent with, else the first.
    """
    if trail.credentials:
        verified = [one for one in trail.credentials if one.verified]
        if len(verified) > 1 and authorization:
            sent = hashlib.sha256(authorization.partition(b" ")[2].strip()).hexdigest()
            verified.sort(key=lambda one: one.digest != sent)
        return (verified or trail.credentials)[0]
    if authorization:
        word, space, rest = authorization.partition(b" ")
        scheme = word.decode("latin-1").lower() if space else ""
        if scheme not in _SCHEMES:
            scheme, rest = "authorization", authorization
        if scheme in _OF_ONE_REQUEST:
            return _BASIC
        return Credential(scheme, key_id=fingerprint(rest.strip(), pseudonym))
    return Credential(API_KEY, key_id=fingerprint(api_key, pseudonym)) if api_key else None


def kind_of(kind: str, trail: RequestTrail, status: int) -> str:
    """The kind of a request whose credential failed: some frameworks answer 400 or 403 to it, or 200 to a login."""
    if (
        trail.failures
        and (status in _REFUSED or kind == ACCESS_AUTHENTICATION_SUCCEEDED)
        and not any(one.verified for one in trail.credentials)
    ):
        return ACCESS_AUTHENTICATION_FAILED
    return kind


def complete(
    pipeline: Pipeline, event: AuditEvent, trail: RequestTrail, credential: Credential | None
) -> AuditEvent | None:
    """Completes a request's event with its credential; returns the additional event to record, if any."""
    actor = event.actor or _NOBODY
    _hide(event, trail)
    if credential is None and actor.method == "authenticated":
        credential = Credential("session", actor=actor, verified=True)
    failure = trail.failures[0] if trail.failures else None
    if failure is not None and failure.actor is not None and actor.method == _NOBODY.method:
        actor = failure.actor
    if event.kind == ACCESS_AUTHENTICATION_FAILED and failure is not None:
        event.actor, event.outcome = actor, FAILURE
        if credential is not None:
            event.fields.update(credential.fields())
        before = event.fields.get("event.reason")
        event.fields.update(failure.fields())
        if before:
            event.fields["event.reason"] = f"{failure.reason}; {before}"
        return None
    if credential is not None:
        event.fields.update(credential.fields())
    verified = credential is not None and (credential.verified or actor.method == "authenticated")
    if failure is not None and not verified and event.kind != ACCESS_DENIED:
        fields = {**_of_the_request(event), **failure.fields()}
        fields["event.reason"] = f"{failure.reason}; the request went on without it"
        return _beside(event, AuditEvent(ACCESS_AUTHENTICATION_FAILED, FAILURE, actor, event.target, fields))
    if credential is None or event.kind == ACCESS_AUTHENTICATION_SUCCEEDED or event.outcome != SUCCESS:
        return None
    if not verified and credential not in trail.credentials:
        return None  # a header that no known code has verified
    found = _first_use(pipeline, credential, actor)
    if found is None:
        return None
    found.target = event.target
    found.fields |= _of_the_request(event)
    if not verified:
        known = found.fields.get("event.reason")
        reason = "the application was given the credential and did not refuse the request"
        found.fields["event.reason"] = f"{reason}; {known}" if known else reason
    return _beside(event, found)


def _hide(event: AuditEvent, trail: RequestTrail) -> None:
    """Removes credentials from the query, whatever the names of their parameters."""
    hidden = {one.parameter for one in trail.credentials if one.parameter}
    query = event.fields.get("url.query")
    if hidden and query:
        parts = [part.partition("=") for part in query.split("&")]
        event.fields["url.query"] = "&".join(
            f"{name}={REMOVED}" if unquote_plus(name) in hidden else f"{name}{equals}{value}"
            for name, equals, value in parts
        )


def _of_the_request(event: AuditEvent) -> dict[str, Any]:
    return {name: event.fields[name] for name in _OF_THE_REQUEST if name in event.fields}


def _beside(event: AuditEvent, other: AuditEvent) -> AuditEvent:
    other.trace_id, other.span_id = event.trace_id, event.span_id
    return other


def _first_use(pipeline: Pipeline, credential: Credential, actor: Actor) -> AuditEvent | None:
    """The event of a first use; None when this process has recorded one within the window."""
    key = (credential.scheme, credential.issuer, credential.key_id, actor.id)
    repeated = _uses.note(pipeline, key)
    if repeated is None:
        return None
    fields = credential.fields()
    if repeated:
        fields["event.reason"] = f"used {repeated} times since this was last recorded"
    service = Target("service", pipeline.settings.service_name)
    return AuditEvent(ACCESS_AUTHENTICATION_SUCCEEDED, SUCCESS, actor, service, fields)


class _Uses:
    """The credentials that this process has recorded, when, and how often they were used since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of two concurrent first uses only one is recorded
        self._recorded: RateLimit[tuple[str, ...]] = RateLimit()
        self._owner: Callable[[], Any] = lambda: None

    def note(self, pipeline: Pipeline, key: tuple[str, ...]) -> int | None:
        """Counts a use; returns the number of unrecorded uses, or None when this one is not recorded either."""
        with self._lock:
            if self._owner() is not pipeline:
                self._recorded = RateLimit(1, WINDOW_SECONDS, kept=MAX_REMEMBERED)
                self._owner = weakref.ref(pipeline)
            return self._recorded.due(key)

    def forget(self) -> None:
        """For a forked child, which records its own uses; its parent may have held the lock."""
        self.__init__()  # type: ignore[misc]


_uses: Final = _Uses()
os.register_at_fork(after_in_child=_uses.forget)
