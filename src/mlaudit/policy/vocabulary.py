"""The keywords of a policy, and the redaction's classification of fields."""

from __future__ import annotations

from typing import Final

from mlaudit.catalog.names import CONTENT_FIELDS, FIELD_TYPES, IP_FIELDS, KINDS, SECRET_FIELDS, kind_of

LEVELS: Final = ("none", "metadata", "inputs", "full")
GUARANTEES: Final = ("buffered", "durable")
FAILURES: Final = ("continue", "refuse")
SEVERITIES: Final = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
"""OpenTelemetry severity numbers; the lowest of each range."""

BUFFERED, DURABLE = GUARANTEES
CONTINUE, REFUSE = FAILURES

NOT_AUDITED: Final = "none"
"""The kind of a route that is deliberately not audited."""

CUSTOM_PREFIX: Final = "audit.app."
"""Prefix of the kinds that an application defines for ``mlaudit.record()``."""

CATALOG_KINDS: Final = tuple(kind for kind in KINDS if not kind.endswith("*"))

OWN_PREFIXES: Final = ("audit.stream.", "audit.policy.", "audit.pipeline.", "audit.service.")
"""Prefixes of the kinds that only mlaudit itself records: no route, span or log becomes one, so none can be forged.

No rule can turn them off: their level is at least metadata and they are durable.
"""

DEFAULT_RETENTION: Final = "standard"
FINAL_RULE: Final = "built-in"
"""Name of the rule that decides when no rule of the policy matches: metadata, the kind's own guarantee."""

_REDACTABLE: Final = frozenset({
    "audit.actor.id", "audit.target.id", "audit.failure.reason", "audit.lost.reason", "audit.environment.changes",
    "event.reason",
})  # fmt: skip
_PROTECTED_PREFIXES: Final = ("audit.", "event.", "ecs.", "trace.", "span.")
_PROTECTED: Final = frozenset({"@timestamp", "message", "service.name", "process.pid"})
REQUIRED_FIELDS: Final = frozenset({"audit.actor.id", "audit.target.id", "host.name"})
"""Redactable, but required in every record: a dropped one is replaced by a mark."""

_TEXT_TYPES: Final = frozenset({"match_only_text", "wildcard", "text", "flattened", "any"})
_TEXTS: Final = (CONTENT_FIELDS | SECRET_FIELDS) | {
    "event.reason", "audit.failure.reason", "audit.lost.reason", "audit.environment.changes", "user_agent.original",
    # Names from callers, headers and file systems: an address or a token in one is as visible as in a sentence.
    "audit.target.id", "error.code", "http.request.id", "ml.change.ticket", "ml.config.path",
    "ml.dataset.name", "ml.model.path", "process.executable", "process.working_directory", "url.domain",
    *(name for name, kind in FIELD_TYPES.items() if kind in _TEXT_TYPES),
}  # fmt: skip


def is_kind(kind: str) -> bool:
    """Whether the catalog has this kind, or it is a well-formed custom one."""
    return "*" not in kind and kind_of(kind) is not None


def is_own(kind: str) -> bool:
    """Whether only mlaudit itself may produce this kind."""
    return kind.startswith(OWN_PREFIXES)


def default_guarantee(kind: str) -> str:
    """The catalog's guarantee: durable for all kinds but those of high volume. Durable for an unknown kind."""
    known = kind_of(kind)
    return BUFFERED if known is not None and not known.durable else DURABLE


def is_known_field(name: str) -> bool:
    """Whether the catalog has this field."""
    return name in FIELD_TYPES


def is_ip_field(name: str) -> bool:
    """Whether the field must stay an IP address."""
    return name in IP_FIELDS


def is_free_text(name: str) -> bool:
    """Whether this field holds free text; a field outside the catalog is treated as such."""
    return name in _TEXTS or name not in FIELD_TYPES


def is_protected(name: str) -> bool:
    """Whether no policy may redact this field: without it the record is invalid, or proves nothing."""
    return (name in _PROTECTED or name.startswith(_PROTECTED_PREFIXES)) and name not in _REDACTABLE
