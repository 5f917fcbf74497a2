"""The searches of a rule; works on a reduced Elasticsearch: no EQL, ES|QL or scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mlaudit import rfc3339
from mlaudit.cluster import page
from mlaudit.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from elasticsearch import Elasticsearch

    from mlaudit.detect.compiled_rule import Plan, Step

PAGE: Final = 1000
SAMPLE: Final = 5
_DOING: Final = "searching for alerts"
ENTITIES: Final = ("audit.actor.id", "source.ip", "ml.model.name", "service.name", "audit.kind")
_BY_TIME: Final = [
    {"@timestamp": {"order": "asc", "numeric_type": "date_nanos"}},
    {"event.sequence": {"order": "asc", "unmapped_type": "long"}},
]

Group: TypeAlias = tuple[Any, ...]
Query: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Description:
    """A summary of the records of one finding; ``first`` and ``last`` in nanoseconds since the epoch."""

    count: int
    fresh: int
    first: int
    last: int
    entities: dict[str, list[str]]
    records: tuple[str, ...]


class Searcher:
    """Searches one set of audit data streams.

    ``since`` and ``until`` bound when a record arrived (``event.ingested``), not when it happened: a record
    that waited in a spool is judged when it comes.
    """

    def __init__(self, client: Elasticsearch, index: str, since: datetime, until: datetime) -> None:
        self._client = client
        self._index = index
        arrived = {"gte": rfc3339.from_datetime(since), "lt": rfc3339.from_datetime(until)}
        # Records that did not come through the collector have no time of arrival.
        self.fresh: Query = _any(
            {"range": {"event.ingested": arrived}},
            {
                "bool": {
                    "must_not": {"exists": {"field": "event.ingested"}},
                    "filter": {"range": {"@timestamp": arrived}},
                }
            },
        )

    def require(self) -> None:
        """Raises SourceError when there is no audit data stream, or it cannot be searched."""
        if self._search(size=0)["_shards"]["total"] == 0:
            raise SourceError(
                f"expected audit data streams {self._index}, found none; "
                "run mlaudit install and send records first"
            )

    def groups(self, plan: Plan) -> list[Group]:
        """The groups with a fresh record that matches any step."""
        query = _all(matches(plan.steps), self.fresh)
        return [key for key, _ in self._composite(query, plan.group_by, missing=True)]

    def span(self, plan: Plan) -> tuple[int, int] | None:
        """Milliseconds since the epoch of the earliest and latest fresh record; None without fresh records."""
        answer = self._search(
            size=0,
            query=_all(matches(plan.steps), self.fresh),
            aggs={
                "first": {"min": {"field": "@timestamp"}},
                "last": {"max": {"field": "@timestamp"}},
            },
        )["aggregations"]
        if answer["first"]["value"] is None:
            return None
        return int(answer["first"]["value"]), int(answer["last"]["value"])

    def buckets(
        self, plan: Plan, step: Step, span: tuple[int, int], among: Sequence[Group] | None
    ) -> Iterator[tuple[Group, dict[int, int]]]:
        """For each group its number of records per bucket of the window's length, fresh or not."""
        filters = [matches((step,)), _between(*span)]
        if among is not None and len(among) <= PAGE:
            filters.append(_any(*(same(plan.group_by, key) for key in among)))
        width = plan.window_seconds * 1000
        numbers: dict[int, int] = {}
        current: Group | None = None
        for key, count in self._composite(_all(*filters), plan.group_by, width=plan.window_seconds):
            if key[:-1] != current:
                if current is not None:
                    yield current, numbers
                current, numbers = key[:-1], {}
            numbers[key[-1] // width] = count
        if current is not None:
            yield current, numbers

    def hits(self, plan: Plan, key: Group, span: tuple[int, int]) -> Iterator[tuple[int, set[int]]]:
        """Time in nanoseconds and matched steps of every record of a group, in order of time."""
        named = [
            {"query_string": {"query": step.query, "_name": str(number)}}
            for number, step in enumerate(plan.steps)
        ]
        query = _all(_any(*named), same(plan.group_by, key), _between(*span))
        with page.PointInTime(self._client, self._index, _DOING) as point:
            for hit in page.hits(point.search, size=PAGE, query=query, sort=_BY_TIME, source=False):
                yield hit["sort"][0], {int(name) for name in hit["matched_queries"]}

    def describe(self, plan: Plan, key: Group, nanoseconds: tuple[int, int] | None = None) -> Description:
        """Summarises a group's records: all between two times, or the fresh ones."""
        filters = [matches(plan.steps), same(plan.group_by, key)]
        if nanoseconds is None:
            filters.append(self.fresh)
        else:
            first, last = (rfc3339.from_nanoseconds(time) for time in nanoseconds)
            filters.append({"range": {"@timestamp": {"gte": first, "lte": last}}})
        last_first = [{"@timestamp": {"order": "desc", "numeric_type": "date_nanos"}}]
        answer = self._search(
            size=SAMPLE,
            query=_all(*filters),
            sort=_BY_TIME,
            source=["audit.record.id"],
            track_total_hits=True,
            aggs={
                "fresh": {"filter": self.fresh},
                "last": {"top_hits": {"size": 1, "sort": last_first, "_source": False}},
                **{name: {"terms": {"field": name, "size": SAMPLE}} for name in ENTITIES},
            },
        )
        hits, found = answer["hits"]["hits"], answer["aggregations"]
        entities = {
            name: [str(bucket.get("key_as_string", bucket["key"])) for bucket in found[name]["buckets"]]
            for name in ENTITIES
        }
        newest = found["last"]["hits"]["hits"]
        return Description(
            count=answer["hits"]["total"]["value"],
            fresh=found["fresh"]["doc_count"],
            first=hits[0]["sort"][0] if hits else 0,
            last=newest[0]["sort"][0] if newest else 0,
            entities={name: values for name, values in entities.items() if values},
            records=tuple(hit["_source"].get("audit.record.id") or hit["_id"] for hit in hits),
        )

    def _composite(
        self, query: Query, fields: Iterable[str], *, missing: bool = False, width: int = 0
    ) -> Iterator[tuple[Group, int]]:
        """Every combination of the fields' values, exactly; terms would be cut off at a size."""
        sources: list[dict[str, Any]] = [
            {str(number): {"terms": {"field": name, "missing_bucket": missing}}}
            for number, name in enumerate(fields)
        ]
        if width:
            sources.append(
                {"time": {"date_histogram": {"field": "@timestamp", "fixed_interval": f"{width}s"}}}
            )
        for bucket in page.buckets(self._search, sources=sources, query=query, size=PAGE):
            yield tuple(bucket["key"].values()), bucket["doc_count"]

    def _search(self, **body: Any) -> Mapping[str, Any]:
        return page.search(self._client, _DOING, index=self._index, **body)


def matches(steps: Iterable[Step]) -> Query:
    """Records that match any of the steps."""
    return _any(*({"query_string": {"query": step.query}} for step in steps))


def same(fields: Iterable[str], key: Group) -> Query:
    """Records of one group."""
    return _all(
        *(
            {"term": {name: value}}
            if value is not None
            else {"bool": {"must_not": {"exists": {"field": name}}}}
            for name, value in zip(fields, key, strict=True)
        )
    )


def _between(first: int, last: int) -> Query:
    return {"range": {"@timestamp": {"gte": first, "lte": last, "format": "epoch_millis"}}}


def _all(*queries: Query) -> Query:
    return {"bool": {"filter": list(queries)}}


def _any(*queries: Query) -> Query:
    return {"bool": {"should": list(queries), "minimum_should_match": 1}}
