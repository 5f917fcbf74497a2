"""Decides which rule of the policy applies to an event, and what the rule sets.

Imports neither YAML nor pydantic: this is the hot path. A decision is a dict lookup for facts that were seen before,
and every cache is bounded, since clients can choose routes, paths and actors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.policy.change import ChangeControl, make_window
from mlaudit.policy.data_selection import make_selection
from mlaudit.policy.globs import Matcher, name_matcher, path_matcher
from mlaudit.policy.methods import Pseudonyms
from mlaudit.policy.model_registry import ModelRegistry
from mlaudit.policy.redact import Redaction, RedactionRule
from mlaudit.policy.routes import RouteTables
from mlaudit.policy.scrub import Scrubber
from mlaudit.policy.selectors import LogSelector, Selection, SpanSelector, make_projection, make_test
from mlaudit.policy.vocabulary import (
    CONTINUE,
    DEFAULT_RETENTION,
    DURABLE,
    FINAL_RULE,
    LEVELS,
    REFUSE,
    SEVERITIES,
    default_guarantee,
    is_known_field,
    is_own,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlaudit.policy.model import Policy, Redact, Rule

CRITERIA: Final = ("kind", "service", "route", "model", "actor")
_DECISIONS_KEPT: Final = 4096
_PATHS_KEPT: Final = 2048
_LONGEST_KEPT: Final = 1024


class Level(IntEnum):
    """How much of an event is recorded; each level includes the ones below it."""

    NONE = 0
    METADATA = 1
    INPUTS = 2
    FULL = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """The policy's decision about an event.

    ``guarantee`` is ``buffered`` or ``durable``, ``on_failure`` is ``continue`` or ``refuse``.
    """

    rule: str
    level: Level
    redaction: Redaction
    guarantee: str
    on_failure: str
    retention: str


class Facts(NamedTuple):
    """The values that a rule can match on. ``route`` is the framework's route template if it has one, else the path."""

    kind: str
    service: str = ""
    route: str = ""
    model: str = ""
    actor: str = ""


class _CompiledRule:
    __slots__ = ("criteria", "durable_or", "level", "name", "on_failure", "redaction", "retention")

    def __init__(self, rule: Rule, redaction: Redaction) -> None:
        self.name = rule.name
        self.criteria = criteria_of(rule)
        self.level = Level(LEVELS.index(rule.level))
        self.redaction = redaction
        self.durable_or = rule.guarantee
        self.on_failure: str = rule.on_failure
        self.retention = rule.retention

    def decide(self, kind: str) -> Decision:
        own = is_own(kind)
        return Decision(
            rule=self.name,
            level=max(self.level, Level.METADATA) if own else self.level,
            redaction=self.redaction,
            guarantee=DURABLE if own else self.durable_or or default_guarantee(kind),
            on_failure=self.on_failure,
            retention=self.retention,
        )


class CompiledPolicy:
    """A policy ready to evaluate; immutable, safe to use from any thread.

    Attributes:
        digest: SHA-256 of the policy's canonical form.
        revision: number of its latest revision.
        watch: paths of configuration files to watch.
        models: the model registry.
        change: change control.
        data: which data accesses are recorded.
        has_span_selectors, has_log_selectors: whether ``span_kind`` and ``log_kind`` can ever match.
        max_level: the highest level of any rule; below ``INPUTS`` no request body needs to be kept.
        can_refuse: whether any rule has ``on_failure: refuse``.
    """

    def __init__(self, policy: Policy, pseudonym_key: bytes) -> None:
        """Compile; raises ValueError when the key is empty."""
        self.digest = policy.digest
        self.revision = policy.revision
        self.watch: tuple[str, ...] = policy.watch
        self.models = ModelRegistry((entry.name, entry.path, entry.digest) for entry in policy.models)
        self.change = ChangeControl(
            ticket_header=policy.change.ticket_header.lower(),
            approver_header=policy.change.approver_header.lower(),
            windows=tuple(make_window(w.days, w.start, w.end, w.timezone) for w in policy.change.windows),
        )
        self.data = make_selection(policy.data.tables, policy.data.paths, policy.data.bulk_rows)
        self.pseudonyms = Pseudonyms(pseudonym_key)
        self.scrubber = Scrubber(pseudonym_key, emails=policy.scrub.emails, keys=policy.scrub.keys or ())
        base = _redactions(policy.redact)
        shared: dict[tuple[RedactionRule, ...], Redaction] = {}

        def redaction(own: Sequence[Redact]) -> Redaction:
            rules = (*base, *_redactions(own))
            if rules not in shared:
                shared[rules] = Redaction(rules, self.pseudonyms, self.scrubber)
            return shared[rules]

        self._final_redaction = redaction(())
        self._rules = tuple(_CompiledRule(rule, redaction(rule.redact)) for rule in policy.rules)
        self.max_level = max((rule.level for rule in self._rules), default=Level.METADATA)
        self.can_refuse = any(rule.on_failure == REFUSE for rule in self._rules)
        used = [
            name
            for name in CRITERIA[1:]
            if any(name == criterion for r in self._rules for criterion, _ in r.criteria)
        ]
        # The key contains only criteria that some rule uses: without a rule on actors, actors share one entry.
        self._key_of = attrgetter("kind", *used)
        self._used = ("kind", *used)
        self._decided = lru_cache(maxsize=_DECISIONS_KEPT)(self._decide)
        self._routes = RouteTables(policy.routes)
        self._kinds = lru_cache(maxsize=_PATHS_KEPT)(self._routes.kind)
        self._models = lru_cache(maxsize=_PATHS_KEPT)(self._routes.model)
        self._spans = _span_selectors(policy)
        self._logs = _log_selectors(policy)
        self.has_span_selectors = bool(self._spans)
        self.has_log_selectors = bool(self._logs)

    def decide(self, facts: Facts) -> Decision:
        """The decision of the first rule that matches, or of the built-in final rule: metadata, fail-safe."""
        key = self._key_of(facts)
        # Clients choose the path of a request: very long ones are not cached.
        long = len(facts.route) + len(facts.actor) + len(facts.model) > _LONGEST_KEPT
        return self._decide(key) if long else self._decided(key)

    def route_kind(self, method: str, path: str) -> str | None:
        """The event kind of a request; "" when it is deliberately not audited, None when no route matches."""
        return (self._routes.kind if len(path) > _LONGEST_KEPT else self._kinds)(method, path)

    def route_model(self, method: str, path: str) -> tuple[str, str]:
        """Name and version of a model, as matched by ``{model}`` and ``{version}`` of the request's route; else ""."""
        return (self._routes.model if len(path) > _LONGEST_KEPT else self._models)(method, path)

    def span_kind(self, scope: str, name: str, attributes: Mapping[str, Any]) -> Selection | None:
        """The selection by the first entry of ``spans`` that matches a finished span, or None."""
        for selector in self._spans:
            if selector.matches(scope, name, attributes):
                return Selection(selector.kind, selector.projection.of(attributes))
        return None

    def log_kind(
        self,
        event_name: str,
        logger: str = "",
        severity: int = 0,
        attributes: Mapping[str, Any] | None = None,
    ) -> Selection | None:
        """The selection by the first entry of ``logs`` that matches a log record, or None.

        ``severity`` is the OpenTelemetry severity number.
        """
        for selector in self._logs:
            kind = selector.resolve(event_name, logger, severity, attributes or {})
            if kind is not None:
                return Selection(kind, selector.projection.of(attributes or {}))
        return None

    def _decide(self, key: str | tuple[str, ...]) -> Decision:
        facts = Facts(key) if isinstance(key, str) else Facts(**dict(zip(self._used, key, strict=True)))
        for rule in self._rules:
            if all(matches(getattr(facts, criterion)) for criterion, matches in rule.criteria):
                return rule.decide(facts.kind)
        return Decision(
            rule=FINAL_RULE,
            level=Level.METADATA,
            redaction=self._final_redaction,
            guarantee=default_guarantee(facts.kind),
            on_failure=CONTINUE,
            retention=DEFAULT_RETENTION,
        )


def compile_policy(policy: Policy, pseudonym_key: bytes) -> CompiledPolicy:
    """Compile a loaded policy; ``pseudonym_key`` keys the pseudonyms of ``hmac`` redactions."""
    return CompiledPolicy(policy, pseudonym_key)


def criteria_of(rule: Rule) -> tuple[tuple[str, Matcher], ...]:
    """The criteria that a rule gives, in the order in which they are tested."""
    return tuple(
        (criterion, (path_matcher if criterion == "route" else name_matcher)(patterns))
        for criterion in CRITERIA
        if (patterns := getattr(rule.match, criterion)) is not None
    )


def _redactions(entries: Sequence[Redact]) -> tuple[RedactionRule, ...]:
    return tuple(RedactionRule(entry.fields, entry.method, entry.keep) for entry in entries)


def _span_selectors(policy: Policy) -> tuple[SpanSelector, ...]:
    return tuple(
        SpanSelector(
            kind=entry.kind,
            scope=name_matcher(entry.scope) if entry.scope else None,
            name=name_matcher(entry.name) if entry.name else None,
            attributes=tuple((name, make_test(value)) for name, value in entry.attributes.items()),
            projection=make_projection(entry.fields, is_copied),
        )
        for entry in policy.spans
    )


def _log_selectors(policy: Policy) -> tuple[LogSelector, ...]:
    return tuple(
        LogSelector(
            kind=entry.kind,
            logger=name_matcher(entry.logger) if entry.logger else None,
            event_name=name_matcher(entry.event_name) if entry.event_name else None,
            severity=SEVERITIES[entry.severity] if entry.severity else 0,
            attributes=tuple((name, make_test(value)) for name, value in entry.attributes.items()),
            projection=make_projection(entry.fields, is_copied),
        )
        for entry in policy.logs
    )


def is_copied(name: str) -> bool:
    """Whether a glob of a selector may copy this attribute: a field of the catalog, or a label."""
    return is_known_field(name) or name.startswith("labels.")
