"""The audit event of a finished HTTP exchange: kind, actor, target and outcome."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import orjson

from mlaudit.capture.web.http_body import Body, json_text
from mlaudit.catalog.names import (
    ACCESS_AUTHENTICATION_FAILED,
    ACCESS_AUTHENTICATION_SUCCEEDED,
    ACCESS_DENIED,
    API_REQUEST,
    ML_PREDICTION,
)
from mlaudit.event import FAILURE, SUCCESS, UNKNOWN, Actor, AuditEvent, Target
from mlaudit.safety.bounded_map import BoundedMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlaudit.capture.request_context import ModelUse, RequestTrail
    from mlaudit.policy.change import ChangeControl

_MOST_KEYS: Final = 200
_LONGEST: Final = 1024
_LONGEST_HOST: Final = 256


class Answer:
    """The result of one HTTP exchange.

    Attributes:
        scope: the request in the form of an ASGI scope, as the application left it.
        headers: of the request: lower-case names to the first value of each.
        response_headers: as the application gave them.
        status: 0 when no response was begun.
        request, response: the bodies; None when there was nothing in them.
        request_complete: the application has read the request body to its end.
        duration: nanoseconds.
        outcome, error: of the event; ``error`` is the class of an exception, or empty.
        reason: why the exchange did not end as it should.
    """

    # Class defaults, not set in each instance: one instance is created per request.
    scope: Mapping[str, Any]
    headers: Mapping[bytes, bytes]
    response_headers: Sequence[tuple[bytes, bytes]] = ()
    status = 0
    request: Body | None = None
    request_complete = False
    response: Body | None = None
    duration = 0
    outcome = UNKNOWN
    error = ""
    reason = ""


def kind_of(mapped: str | None, trail: RequestTrail, status: int) -> str:
    """The kind of a request: a refused request is an access event, whatever it requested."""
    if status == 401:
        return ACCESS_AUTHENTICATION_FAILED
    if status == 403:
        return ACCESS_DENIED
    if mapped is None:
        return ML_PREDICTION if trail.models else API_REQUEST
    if mapped == ACCESS_AUTHENTICATION_SUCCEEDED and status >= 400:
        return ACCESS_AUTHENTICATION_FAILED
    return mapped


def event_of(kind: str, mapped: str | None, answer: Answer, trail: RequestTrail, actor: Actor) -> AuditEvent:
    """The event at metadata level; ``add_contents`` adds what higher levels require."""
    scope = answer.scope
    path: str = scope["path"]
    route = trail.route
    if len(path) > _LONGEST:
        path = path[:_LONGEST]
    fields: dict[str, Any] = {
        "event.duration": answer.duration,
        "http.request.method": scope["method"],
        "url.path": path,
        "url.scheme": scope.get("scheme", "http"),
    }
    if answer.status:
        fields["http.response.status_code"] = answer.status
    if route:
        fields["http.route"] = route
    if query := scope.get("query_string"):
        fields["url.query"] = query[:_LONGEST].decode("latin-1")
    if client := scope.get("client"):
        address, port = client
        address = address[:_LONGEST_HOST]
        fields["client.address"] = address
        if _is_ip(address):
            fields["source.ip"] = address
            if port:
                fields["source.port"] = port
    header = answer.headers.get
    agent, host = header(b"user-agent"), header(b"host")
    fields.update(_caller(agent and agent[:_LONGEST], host and host[:_LONGEST_HOST]))
    if (value := header(b"x-request-id")) is not None:
        fields["http.request.id"] = value[:_LONGEST].decode("latin-1")
    if (body := answer.request) is not None and answer.request_complete:
        fields["http.request.body.bytes"] = body.size
        fields["http.request.body.hash.sha256"] = body.digest()
    if (body := answer.response) is not None:
        fields["http.response.body.bytes"] = body.size
        fields["http.response.body.hash.sha256"] = body.digest()
    if answer.error:
        fields["error.type"] = answer.error
    reason = answer.reason
    if mapped and mapped != kind:
        reason = f"the request asked for {mapped}" + (f"; {reason}" if reason else "")
    if reason:
        fields["event.reason"] = reason
    event = AuditEvent(kind, answer.outcome, actor, _route_target(route or path), fields)
    if trail.models:
        _add_models(event, trail.models)
    return event


def add_contents(event: AuditEvent, answer: Answer, level: int) -> None:
    """Adds the bodies that the level requires if they can be redacted, otherwise the reason why not."""
    reasons: list[str] = []
    if level >= 2 and answer.request is not None:
        _add_content(event.inputs, "request", answer.request, answer.headers, reasons)
        if not answer.request_complete:
            reasons.append("the application did not read the whole request body")
    if level >= 3 and answer.response is not None:
        headers = {name.lower(): value for name, value in answer.response_headers}
        _add_content(event.outputs, "response", answer.response, headers, reasons)
    if reasons:
        before = event.fields.get("event.reason")
        event.fields["event.reason"] = "; ".join([before, *reasons] if before else reasons)


def add_config_change(event: AuditEvent, answer: Answer, change: ChangeControl) -> None:
    """Adds what was changed, under which ticket, by whose approval and whether in a change window."""
    fields = event.fields
    fields["ml.config.source"] = "route"
    fields["ml.config.path"] = answer.scope["path"][:_LONGEST]
    event.target = Target("config", fields["ml.config.path"])
    add_change_control(event, answer, change)
    complete = answer.request is not None and answer.request_complete
    after = answer.request.digest() if answer.request is not None and complete else ""
    before = _settings.exchange(
        answer.scope["method"], fields["ml.config.path"], after, done=event.outcome == SUCCESS
    )
    if before:
        fields["ml.config.before.digest"] = before
    if answer.request is None or not after:
        return
    fields["ml.config.after.digest"] = after
    raw = answer.request.raw()
    if raw is None or answer.headers.get(b"content-encoding", b"identity") != b"identity":
        return
    try:
        settings = orjson.loads(raw)
    except ValueError:
        return
    changes = _flat(settings)
    if changes:
        fields["ml.config.keys"] = sorted(changes)
        event.inputs["ml.config.changes"] = changes


class _Settings:
    """The last complete configuration that this process received, by path; digests only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: BoundedMap[str, str] = BoundedMap(_MOST_KEYS)

    def exchange(self, method: str, path: str, after: str, *, done: bool) -> str:
        """The digest before the change, "" if unknown; remembers the new one if the change succeeded."""
        with self._lock:
            before = self._digests.get(path, "")
            if done:  # any other method may have set a part: the whole is no longer known
                self._digests.pop(path, None)
                if method == "PUT" and after:
                    self._digests[path] = after
        return before

    def forget(self) -> None:
        """For a forked child, whose parent may have held the lock."""
        self.__init__()  # type: ignore[misc]


_settings: Final = _Settings()
os.register_at_fork(after_in_child=_settings.forget)


def add_change_control(event: AuditEvent, answer: Answer, change: ChangeControl) -> None:
    """Adds the ticket, who approved it, and whether a change window was open."""
    fields = event.fields
    for field, name in (
        ("ml.change.ticket", change.ticket_header),
        ("ml.change.approver", change.approver_header),
    ):
        value = answer.headers.get(name.encode("latin-1")) if name else None
        if value:
            fields[field] = value[:_LONGEST].decode("latin-1")
    fields["ml.change.in_window"] = change.in_window(event.timestamp)


def _flat(settings: Any) -> dict[str, Any]:
    """The leaves of a JSON object by dotted path, at most 200 of them."""
    if not isinstance(settings, dict):
        return {}
    out: dict[str, Any] = {}
    pending = [("", settings)]
    while pending and len(out) < _MOST_KEYS:
        prefix, value = pending.pop()
        for key, item in value.items():
            name = f"{prefix}{key}"[:_LONGEST]
            if isinstance(item, dict) and item and name.count(".") < 8:
                pending.append((f"{name}.", item))
            elif len(out) < _MOST_KEYS:
                out[name] = item if item is not None else "null"
    return out


def _add_models(event: AuditEvent, models: Sequence[ModelUse]) -> None:
    """The last model that answered produced the answer; the others are listed in addition."""
    use = models[-1]
    fields = event.fields
    fields.update(use.named())
    if len(models) > 1:
        fields["ml.models"] = list(dict.fromkeys(other.name or other.cls or "unknown" for other in models))
    if use.error and "error.type" not in fields:
        fields["error.type"] = use.error
    fields.update(use.fields)
    event.inputs.update(use.inputs)
    event.outputs.update(use.outputs)
    if event.kind == ML_PREDICTION:
        event.target = use.target() or event.target


def target_of(name: str, version: str) -> Target:
    """A model as what was acted on."""
    return Target("model", f"{name}@{version}" if version else name)


def outcome_of(status: int) -> str:
    """Success below 400: a redirect and a 304 are successful answers."""
    return SUCCESS if 0 < status < 400 else FAILURE


def _add_content(
    into: dict[str, Any],
    which: str,
    body: Body,
    headers: Mapping[bytes, bytes],
    reasons: list[str],
) -> None:
    if not body.size:
        return
    text, why = json_text(body, headers.get(b"content-encoding", b""), headers.get(b"content-type", b""))
    if text is not None:
        into[f"http.{which}.body.content"] = text
        return
    reasons.append(f"{which} content not recorded: {why}")
    if which == "request":
        into["http.request.body.truncated"] = True


@lru_cache(maxsize=1024)
def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)  # the same few repeat in every request
def _caller(user_agent: bytes | None, host: bytes | None) -> dict[str, str]:
    """The client's headers about itself and its target; not to be changed."""
    fields: dict[str, str] = {}
    if user_agent is not None:
        fields["user_agent.original"] = user_agent.decode("latin-1")
    if host is not None:
        name = host.decode("latin-1")
        fields["url.domain"] = f"{name.rpartition(']')[0]}]" if name[:1] == "[" else name.partition(":")[0]
    return fields


@lru_cache(maxsize=1024)
def _route_target(route: str) -> Target:
    return Target("route", route)
