"""Reads the Sigma rules and compiles each to a plan that a reduced Elasticsearch can run.

pySigma parses the rules and writes the queries of single records; its correlations are not used: it has none
for Lucene, its EQL sequences are invalid, and its ES|QL counts in fixed buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yaml import YAMLError

from mlaudit.detect.compiled_rule import Plan, Step
from mlaudit.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaDetection, SigmaRule

#: A deliberate limit: candidates of a rule are read record by record.
MAX_COUNT: Final = 5000


@dataclass(frozen=True, slots=True)
class Detection:
    """One rule as written, and what it compiles to.

    Attributes:
        eql: condition of each step in EQL syntax, in the order of ``plan.steps``.
        fields: every record field that the rule reads.
        settings: the rule's own ``mlaudit`` section: risk_score, policy, triage, tuning, group_by.
        file: name of the Sigma file.
    """

    plan: Plan
    description: str
    status: str
    date: str
    author: str
    license: str
    references: tuple[str, ...]
    tags: tuple[str, ...]
    falsepositives: tuple[str, ...]
    eql: tuple[str, ...]
    fields: tuple[str, ...]
    settings: Mapping[str, Any]
    file: str


def read_rules(folder: Path) -> tuple[Detection, ...]:
    """Every rule that raises alerts, by name; rules that are only used by correlations are parts of those.

    Raises:
        RuleError: pySigma is missing, or a rule cannot be compiled.
    """
    try:
        from sigma.collection import SigmaCollection
        from sigma.exceptions import SigmaError
    except ImportError as error:
        raise RuleError(
            "expected pySigma to compile the detection rules, found none; install the development dependencies"
        ) from error
    found: list[Detection] = []
    for file in sorted(folder.glob("*.yml")):
        try:
            collection = SigmaCollection.from_yaml(file.read_text(encoding="utf-8"))
            found += [_detection(rule, file.name) for rule in _alerting(collection.rules)]
        except (SigmaError, YAMLError) as error:
            raise RuleError(f"{file.name}: {error}") from error
    _unique(found)
    return tuple(sorted(found, key=lambda one: one.plan.name))


def _alerting(rules: Iterable[Any]) -> list[Any]:
    rules = list(rules)
    parts = {id(reference.rule) for rule in rules for reference in getattr(rule, "rules", ())}
    return [rule for rule in rules if id(rule) not in parts]


def _detection(rule: SigmaRule | SigmaCorrelationRule, file: str) -> Detection:
    settings = rule.custom_attributes.get("mlaudit")
    missing = {"risk_score", "policy", "triage", "tuning"} - set(settings or ())
    if missing or settings is None:
        raise RuleError(f"{file}: {rule.title}: expected mlaudit.{', mlaudit.'.join(sorted(missing))}")
    bases, counts, window, group_by = _parts(rule, file)
    plan = Plan(
        id=str(rule.id),
        name=str(rule.name),
        title=rule.title,
        level=str(rule.level),
        steps=tuple(Step(_lucene(base), count) for base, count in zip(bases, counts, strict=True)),
        group_by=tuple(group_by or settings.get("group_by", ())),
        window_seconds=window,
        policy=tuple(settings["policy"]),
    )
    if not plan.group_by:
        raise RuleError(f"{file}: {rule.title}: expected group-by or mlaudit.group_by, found neither")
    fields = {name for base in bases for name in _fields(base)} | set(plan.group_by)
    return Detection(
        plan=plan,
        description=str(rule.description),
        status=str(rule.status),
        date=str(rule.date),
        author=str(rule.author),
        license=str(rule.license),
        references=tuple(rule.references),
        tags=tuple(str(tag) for tag in rule.tags),
        falsepositives=tuple(rule.falsepositives),
        eql=tuple(_eql(base) for base in bases),
        fields=tuple(sorted(fields)),
        settings=settings,
        file=file,
    )


def _parts(rule: Any, file: str) -> tuple[list[SigmaRule], list[int], int, tuple[str, ...]]:
    """Base rules, how often each must match, the window in seconds, and the fields to group by."""
    from sigma.correlations import SigmaCorrelationConditionOperator, SigmaCorrelationType
    from sigma.rule import SigmaRule

    if isinstance(rule, SigmaRule):
        return [rule], [1], 0, ()
    window, group_by = rule.timespan.seconds, tuple(rule.group_by or ())
    referred = [reference.rule for reference in rule.rules]
    if rule.type is SigmaCorrelationType.EVENT_COUNT:
        at_least = {SigmaCorrelationConditionOperator.GTE: 0, SigmaCorrelationConditionOperator.GT: 1}
        if len(referred) != 1 or not isinstance(referred[0], SigmaRule) or rule.condition.op not in at_least:
            raise RuleError(f"{file}: {rule.title}: expected event_count of one rule with gte or gt")
        count = rule.condition.count + at_least[rule.condition.op]
        if not 1 < count <= MAX_COUNT:
            raise RuleError(f"{file}: {rule.title}: expected a count from 2 to {MAX_COUNT}, found {count}")
        return referred, [count], window, group_by
    if rule.type is not SigmaCorrelationType.TEMPORAL_ORDERED:
        raise RuleError(f"{file}: {rule.title}: expected event_count or temporal_ordered, found {rule.type}")
    bases: list[SigmaRule] = []
    counts: list[int] = []
    for part in referred:
        inner, inner_counts, inner_window, inner_group = _parts(part, file)
        # Both engines count one window over the whole sequence; a different inner one would be ignored.
        if inner_window and (inner_window, inner_group) != (window, group_by):
            raise RuleError(f"{file}: {rule.title}: expected the group-by and timespan of {part.title}")
        bases += inner
        counts += inner_counts
    return bases, counts, window, group_by


def _lucene(rule: SigmaRule) -> str:
    from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend

    return _converted(LuceneBackend(), rule)


def _eql(rule: SigmaRule) -> str:
    from sigma.backends.elasticsearch.elasticsearch_eql import EqlBackend

    return _converted(EqlBackend(), rule).removeprefix("any where ")


def _converted(backend: Any, rule: SigmaRule) -> str:
    # A copy: a rule that a correlation uses is switched off for output of its own.
    queries = backend.convert_rule(type(rule).from_dict(rule.to_dict()))
    if len(queries) != 1:
        raise RuleError(f"{rule.title}: expected one condition, found {len(queries)}")
    return str(queries[0])


def _fields(rule: SigmaRule) -> Iterable[str]:
    from sigma.rule import SigmaDetection

    def walk(detection: SigmaDetection) -> Iterable[str]:
        for item in detection.detection_items:
            if isinstance(item, SigmaDetection):
                yield from walk(item)
            elif item.field is not None:
                yield item.field

    for detection in rule.detection.detections.values():
        yield from walk(detection)


def _unique(found: list[Detection]) -> None:
    for what in ("id", "name", "title"):
        values = [getattr(one.plan, what) for one in found]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise RuleError(f"expected every {what} of a rule once, found twice: {', '.join(twice)}")
