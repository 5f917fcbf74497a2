"""Selectors: which spans and log records of other instrumentations are audit events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mlaudit.policy.globs import Matcher, has_wildcard, name_matcher
from mlaudit.policy.vocabulary import is_kind, is_own

RESERVED_PREFIXES: Final = ("audit.", "event.", "ecs.", "trace.", "span.", "log.", "data_stream.")
RESERVED_NAMES: Final = frozenset({"@timestamp", "message", "tags"})
"""Fields that the record stage owns: no attribute of other telemetry may set them."""


class Selection(NamedTuple):
    """The event that a span or log record becomes: a kind, and the fields taken from its attributes."""

    kind: str
    fields: dict[str, Any]


def is_reserved(name: str) -> bool:
    """Whether a field belongs to the record stage."""
    return name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)


@dataclass(frozen=True, slots=True)
class Projection:
    """Maps attributes to fields: exact pairs, and globs that copy an attribute under its own name.

    A glob copies only attributes that are fields of the catalog or labels: ``gen_ai.*`` must not copy prompts.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    globs: Matcher | None = None
    known: Callable[[str], bool] = field(default=lambda name: False)

    def of(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of one set of attributes; sequences become lists."""
        out: dict[str, Any] = {}
        if self.globs is not None:
            for name, value in attributes.items():
                if value is not None and not is_reserved(name) and self.globs(name) and self.known(name):
                    out[name] = list(value) if isinstance(value, tuple) else value
        for attribute, name in self.pairs:
            value = attributes.get(attribute)
            if value is not None:
                out[name] = list(value) if isinstance(value, tuple) else value
        return out


def make_projection(fields: Mapping[str, Iterable[str]], known: Callable[[str], bool]) -> Projection:
    """Compile a ``fields`` mapping of the policy (attribute or glob to field names)."""
    globs = tuple(name for name in fields if has_wildcard(name))
    pairs = tuple(
        (name, target) for name, targets in fields.items() if name not in globs for target in targets
    )
    return Projection(pairs=pairs, globs=name_matcher(globs) if globs else None, known=known)


Test = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class SpanSelector:
    """One entry of ``spans``."""

    kind: str
    scope: Matcher | None
    name: Matcher | None
    attributes: tuple[tuple[str, Test], ...]
    projection: Projection

    def matches(self, scope: str, name: str, attributes: Mapping[str, Any]) -> bool:
        """Whether the span is selected; attributes come first, since they exclude most spans."""
        return (
            _has(self.attributes, attributes)
            and (self.scope is None or bool(self.scope(scope)))
            and (self.name is None or bool(self.name(name)))
        )


@dataclass(frozen=True, slots=True)
class LogSelector:
    """One entry of ``logs``; ``kind`` None takes the record's own event name."""

    kind: str | None
    logger: Matcher | None
    event_name: Matcher | None
    severity: int
    attributes: tuple[tuple[str, Test], ...]
    projection: Projection

    def resolve(
        self, event_name: str, logger: str, severity: int, attributes: Mapping[str, Any]
    ) -> str | None:
        """The kind of the log record, or None when it is not selected."""
        if severity < self.severity:
            return None
        if self.event_name is not None and not (event_name and self.event_name(event_name)):
            return None
        kind = self.kind
        if kind is None:
            if not is_kind(event_name) or is_own(event_name):
                return None
            kind = event_name
        if self.logger is not None and not self.logger(logger):
            return None
        return kind if _has(self.attributes, attributes) else None


def make_test(expected: str | bool | float) -> Test:
    """A test of one attribute: ``*`` requires only that it is present, texts are globs, other values are compared."""
    if expected == "*":
        return lambda value: value is not None
    if isinstance(expected, str):
        matcher = name_matcher((expected,))
        return lambda value: isinstance(value, str) and matcher(value)
    # True == 1 in Python, but the attribute true is not the number 1
    return lambda value: isinstance(value, bool) is isinstance(expected, bool) and value == expected


def _has(tests: tuple[tuple[str, Test], ...], attributes: Mapping[str, Any]) -> bool:
    # A loop instead of all(): this runs for every span of the process, and a generator costs more than the test.
    for name, test in tests:
        value = attributes.get(name)
        if value is None or not test(value):
            return False
    return True
