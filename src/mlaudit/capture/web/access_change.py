"""Requests that change access rights: whose roles, and the roles before and after where the request shows them.

The new permissions are in the body of the request. The previous ones are known only if this process
saw their last change; a service that needs them in every record uses ``mlaudit.record()``.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import orjson

from mlaudit.catalog.names import ACCESS_CREDENTIAL_CHANGED, ACCESS_ROLE_CHANGED
from mlaudit.event import SUCCESS, Target
from mlaudit.safety.bounded_map import BoundedMap

if TYPE_CHECKING:
    from mlaudit.event import AuditEvent
    from mlaudit.policy.evaluate import Decision

KINDS: Final = frozenset({ACCESS_ROLE_CHANGED, ACCESS_CREDENTIAL_CHANGED})
MAX_REMEMBERED: Final = 1000
MAX_ROLES: Final = 100
_LONGEST: Final = 256
_PEOPLE: Final = frozenset(
    {"users", "user", "accounts", "members", "principals", "groups", "teams", "service-accounts"}
)
_ROLES: Final = (
    "roles",
    "role",
    "permissions",
    "permission",
    "groups",
    "group",
    "scopes",
    "rights",
    "grants",
)


def add_access_change(event: AuditEvent, decision: Decision, method: str, body: bytes | None) -> None:
    """Completes the event of a request that changed roles or a credential.

    Args:
        event: with ``url.path``; its target becomes the person, if the path names one.
        decision: applies the same redaction to the id of a person as in other records.
        method: of the request.
        body: of the request, None where it was too long or not read.
    """
    path: str = event.fields.get("url.path", "")
    parts = [part for part in path.split("/") if part]
    person = next((after for part, after in itertools.pairwise(parts) if part in _PEOPLE), "")
    if person:
        shown: dict[str, Any] = {"user.id": person[:_LONGEST]}
        decision.redaction.apply(shown)
        if "user.id" in shown:
            event.target = Target("user", str(shown["user.id"]))
    if event.kind != ACCESS_ROLE_CHANGED:
        return
    where = next((place for place, part in enumerate(parts) if part in _ROLES and place), len(parts) - 1)
    named = parts[where + 1 :]
    given = named[:1] or _roles_in(body)
    key = "/".join(parts[: where + 1])
    with _locks[0]:
        before = _last.get(key)
        after = _after(method, before, given)
        if before is not None:
            event.fields["audit.access.before"] = before
        if after is None:
            return
        event.fields["audit.access.after"] = after
        if event.outcome == SUCCESS:
            _last[key] = after


_locks: Final = [threading.Lock()]
_last: Final[BoundedMap[str, list[str]]] = BoundedMap(MAX_REMEMBERED)


def _forget() -> None:
    """For a forked child: its parent may have held the lock."""
    _locks[0] = threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _after(method: str, before: list[str] | None, given: list[str] | None) -> list[str] | None:
    """The roles afterwards: replaced by PUT and PATCH, one more by POST, one less by DELETE."""
    if method == "DELETE":
        if given is None:
            return []
        return None if before is None else [role for role in before if role not in given]
    if given is None or method == "POST":
        return None if given is None else list(dict.fromkeys([*(before or ()), *given]))
    return given


def _roles_in(body: bytes | None) -> list[str] | None:
    if not body:
        return None
    try:
        content = orjson.loads(body)
    except ValueError:
        return None
    if isinstance(content, dict):
        content = next((content[name] for name in _ROLES if name in content), None)
    if isinstance(content, str):
        content = [content]
    if not isinstance(content, list):
        return None
    return [role[:_LONGEST] for role in content[:MAX_ROLES] if isinstance(role, str)]
