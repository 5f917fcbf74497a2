"""Builds the flat fields of a record from an event and the policy's decision.

The fields that all records of a process share, and those that all records of a kind under one rule share, are
assembled once. An event then costs only its own fields, the redaction and the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from mlaudit.catalog import names
from mlaudit.catalog.names import ECS_RELEASE, SCHEMA_VERSION, Kind
from mlaudit.errors import EventError
from mlaudit.event import SUCCESS, USER, AuditEvent
from mlaudit.records.encode import Common, EncodedRecord, encoded_texts
from mlaudit.rfc3339 import from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INPUTS: Final = 2
_FULL: Final = 3
_PROTOTYPES: Final = 1024
_TEXT: Final = frozenset({str})


class Redacts(Protocol):
    """Removes from fields, in place, everything that the policy does not allow."""

    def apply(self, fields: dict[str, Any]) -> Sequence[str]:
        """Redacts ``fields``; fails closed."""
        ...


class Decides(Protocol):
    """The policy's decision about one event; see ``mlaudit.policy``."""

    @property
    def rule(self) -> str: ...  # noqa: D102
    @property
    def level(self) -> int: ...  # noqa: D102
    @property
    def redaction(self) -> Redacts: ...  # noqa: D102
    @property
    def guarantee(self) -> str: ...  # noqa: D102
    @property
    def retention(self) -> str: ...  # noqa: D102


def kind_of(name: str) -> Kind:
    """The catalog's entry for a kind, also for an application's own ``audit.app.*``.

    Raises:
        EventError: the kind is not in the catalog.
    """
    kind = names.kind_of(name)
    if kind is None:
        raise EventError(f"expected a kind of the catalog or audit.app.*, found {name!r}; see docs/events.md")
    return kind


# The record's identity and the policy's decision: no hook and no application may set these fields.
_FIXED: Final = frozenset(
    {
        "audit.guarantee",
        "audit.kind",
        "audit.policy.digest",
        "audit.policy.level",
        "audit.policy.rule",
        "audit.retention",
        "audit.schema.version",
        "ecs.version",
        "event.category",
        "event.dataset",
        "event.kind",
        "event.module",
        "event.provider",
        "event.type",
    }
)


class Draft(NamedTuple):
    """The redacted fields of one record, without its place in the chain; its own fields override the common ones."""

    common: Common
    own: dict[str, Any]

    def encode(self) -> EncodedRecord:
        """The record's bytes without its place; see ``encode.encode``."""
        return self.common.encode(self.own)


class RecordBuilder:
    """Builds the fields of one process's records.

    ``common`` are the fields that each of them carries: service, host, process, policy.
    """

    __slots__ = ("_common", "_prototypes")

    def __init__(self, common: Mapping[str, Any]) -> None:
        self._common = {
            "ecs.version": ECS_RELEASE,
            "event.module": "mlaudit",
            "event.provider": "mlaudit",
            "audit.schema.version": SCHEMA_VERSION,
            **common,
        }
        self._prototypes: dict[tuple[str, str, int], Common] = {}

    def build(self, event: AuditEvent, decision: Decides) -> Draft:
        """The redacted fields of ``event``, without its place in the chain.

        Raises:
            EventError: unknown kind.
        """
        key = (event.kind, decision.rule, decision.level)
        prototype = self._prototypes.get(key)
        if prototype is None:
            prototype = self._prototype(event.kind, decision)
        fields = event.fields.copy()
        if event.inputs and decision.level >= _INPUTS:
            fields.update(event.inputs)
        if event.outputs and decision.level >= _FULL:
            fields.update(event.outputs)
        actor = event.actor
        if actor is not None:
            is_person = actor.type == USER and actor.method != "anonymous"
            fields["audit.actor.type"] = actor.type
            fields["audit.actor.method"] = actor.method
            if is_person:
                fields["audit.actor.id"] = actor.id
                fields.setdefault("user.id", actor.id)
                if actor.name:
                    fields["user.name"] = actor.name
                if actor.roles:
                    fields["user.roles"] = list(actor.roles)
        target = event.target
        if target is not None:
            fields["audit.target.type"] = target.type
            fields["audit.target.id"] = target.id
        decision.redaction.apply(fields)
        _relate(fields)
        if actor is not None and not is_person:
            # "anonymous" or the name of a service: not personal data.
            fields["audit.actor.id"] = actor.id
        fields["@timestamp"] = from_nanoseconds(event.timestamp)
        fields["event.id"] = fields["audit.record.id"] = event.record_id
        fields["event.outcome"] = fields["audit.outcome"] = event.outcome
        if event.action:
            fields["audit.action"] = event.action
            fields["event.action"] = event.action.lower()
        if event.trace_id:
            fields["trace.id"] = f"{event.trace_id:032x}"
            fields["span.id"] = f"{event.span_id:016x}"
        draft = Draft(prototype, fields)
        fields["message"] = _message(kind_of(event.kind), draft)
        return draft

    def _prototype(self, name: str, decision: Decides) -> Common:
        kind = kind_of(name)
        fields: dict[str, Any] = {
            **self._common,
            "audit.action": kind.action,
            "audit.guarantee": decision.guarantee,
            "audit.kind": name,
            "audit.policy.level": ("none", "metadata", "inputs", "full")[decision.level],
            "audit.policy.rule": decision.rule,
            "audit.retention": decision.retention,
            "event.action": kind.event_action,
            "event.dataset": kind.dataset,
            "event.kind": kind.event_kind,
        }
        # Redacted once for all records, like all common fields: the policy may redact the host's name.
        decision.redaction.apply(fields)
        fields["event.category"] = encoded_texts(kind.categories)
        fields["event.type"] = encoded_texts(kind.types)
        prototype = Common(fields, _FIXED)
        if len(self._prototypes) < _PROTOTYPES:
            self._prototypes[name, decision.rule, decision.level] = prototype
        return prototype


def _relate(fields: dict[str, Any]) -> None:
    """Sets the ECS fields ``related.*`` from the redacted values."""
    user = fields.get("user.id")
    if user is not None:
        name = fields.get("user.name")
        fields["related.user"] = _listed(user) if name is None or name == user else _listed(user, name)
    address = fields.get("source.ip")
    if address is not None:
        fields["related.ip"] = _listed(address)


def _listed(*values: Any) -> Any:
    return encoded_texts(values) if _TEXT.issuperset(map(type, values)) else list(values)


def _message(kind: Kind, draft: Draft) -> str:
    own, common = draft.own, draft.common.fields
    template = kind.message if own["event.outcome"] == SUCCESS else kind.message_failure
    pieces = list(template)  # literal, field name, literal, …
    for place in range(1, len(pieces), 2):
        name = pieces[place]
        pieces[place] = str(own[name] if name in own else common.get(name, "unknown"))
    return "".join(pieces)
