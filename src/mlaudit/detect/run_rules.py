"""Runs compiled rules on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.detect.compiled_rule import INDEX, LEVELS, Alert, Plan
from mlaudit.detect.plans import load_plans, select
from mlaudit.detect.rule_search import Description, Group, Searcher
from mlaudit.detect.window import episodes, may_fit
from mlaudit.rfc3339 import from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from elasticsearch import Elasticsearch


def run_rules(
    client: Elasticsearch,
    since: datetime,
    until: datetime,
    rules: Iterable[str] | None = None,
    *,
    index: str = INDEX,
) -> list[Alert]:
    """Runs the rules on the records that arrived from ``since`` (included) to ``until`` (excluded).

    A sequence of records is found when at least one of its records arrived in that time, whatever the time of
    the others. Alerts come the most severe first.

    Args:
        client: a client that may read the audit data streams.
        since: earliest arrival, with a time zone.
        until: first arrival that is left out, with a time zone.
        rules: names or ids; None runs every rule.
        index: pattern of the data streams to search.

    Raises:
        SourceError: there is no such rule or data stream, or Elasticsearch does not answer or refuses.
    """
    plans = load_plans() if rules is None else select(load_plans(), rules)
    searcher = Searcher(client, index, since, until)
    searcher.require()
    alerts = [alert for plan in plans for alert in _run(searcher, plan)]
    return sorted(alerts, key=lambda one: (-LEVELS.index(one.level), one.rule, one.first))


def _run(searcher: Searcher, plan: Plan) -> Iterator[Alert]:
    found = _sequences(searcher, plan) if plan.window_seconds else _records(searcher, plan)
    for key, description in found:
        yield Alert(
            rule_id=plan.id,
            rule=plan.name,
            title=plan.title,
            level=plan.level,
            count=description.count,
            group={
                name: str(value) for name, value in zip(plan.group_by, key, strict=True) if value is not None
            },
            entities=description.entities,
            first=from_nanoseconds(description.first),
            last=from_nanoseconds(description.last),
            records=description.records,
        )


def _records(searcher: Searcher, plan: Plan) -> Iterator[tuple[Group, Description]]:
    for key in searcher.groups(plan):
        yield key, searcher.describe(plan, key)


def _sequences(searcher: Searcher, plan: Plan) -> Iterator[tuple[Group, Description]]:
    fresh = searcher.span(plan)
    if fresh is None:
        return
    # A sequence with a fresh record reaches at most one window back and one forward; one millisecond more,
    # because the span is cut to milliseconds.
    reach = plan.window_seconds * 1000
    span = (fresh[0] - reach, fresh[1] + reach + 1)
    for key in _candidates(searcher, plan, span):
        hits = searcher.hits(plan, key, span)
        for episode in episodes(hits, [step.count for step in plan.steps], plan.window_seconds):
            description = searcher.describe(plan, key, (episode.first, episode.last))
            if description.fresh:
                yield key, description


def _candidates(searcher: Searcher, plan: Plan, span: tuple[int, int]) -> list[Group]:
    """The groups that have enough records of every step close enough to one another.

    Cheap and without misses; only these few groups are then read record by record.
    """
    groups: list[Group] | None = None
    for step in plan.steps:
        if groups == []:
            break
        enough = {
            key for key, numbers in searcher.buckets(plan, step, span, groups) if may_fit(numbers, step.count)
        }
        groups = sorted(enough) if groups is None else [key for key in groups if key in enough]
    return groups or []
