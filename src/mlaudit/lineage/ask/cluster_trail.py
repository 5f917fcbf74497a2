"""Runs the queries of a lineage on the data streams ``logs-mlaudit.*``, all of them at one point in time.

Values are read from the sealed original and compared with the document's searchable fields. A changed searchable field
cannot change a value, but it can keep a record from being found.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from mlaudit.cluster.client import Auth, connect
from mlaudit.cluster.page import PointInTime, buckets, refresh
from mlaudit.errors import SourceError
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.trail import Page, Record, Sighting, Tallies, Tally
from mlaudit.verify.sources.cluster_source import read_hit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from elasticsearch import Elasticsearch

    from mlaudit.lineage.ask.trail import Ask, Match

SERVICES: Final = 100
_DOING: Final = "reading the lineage"
_SIGHTINGS: Final = 20_000
_NAMES: Final = 2000
_PRECISION: Final = 40_000
_UNSEALED: Final = "mlaudit.unsealed"
_NANOSECONDS: Final = {"numeric_type": "date_nanos"}
_NEWEST: Final[list[dict[str, Any]]] = [
    {"@timestamp": {"order": "desc", **_NANOSECONDS}},
    {"_shard_doc": "desc"},
]


class ElasticsearchTrail:
    """See ``trail.Trail``. Use it in a ``with`` block: it holds a point in time."""

    def __init__(
        self, url: str, auth: Auth = None, *, ca_file: Path | None = None, namespace: str = "*"
    ) -> None:
        """``namespace``: of the data streams; ``*`` for all.

        Raises:
            SourceError: the address or the CA file cannot be used.
        """
        self.name = url
        self._index = f"logs-mlaudit.*-{namespace}"
        self._client: Elasticsearch = connect(url, auth, ca_file)
        self._point = PointInTime(self._client, self._index, _DOING)

    def __enter__(self) -> Self:
        """Opens the point in time.

        Raises:
            SourceError: the cluster cannot be searched, or has no audit data streams.
        """
        with ExitStack() as opened:
            opened.callback(self._client.close)
            refresh(self._client, self._index, _DOING)
            opened.enter_context(self._point)
            if self._point.search(size=0)["_shards"]["total"] == 0:
                raise SourceError(
                    f"expected audit data streams {self._index} at {self.name}, found none; "
                    "run mlaudit install and send records first"
                )
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the point in time and the connections."""
        self._opened.close()

    def find(self, ask: Ask) -> Page:
        """See ``Trail.find``; holds ``ask.limit`` documents."""
        answer = self._point.search(size=ask.limit, query=query_of(ask), sort=_NEWEST, track_total_hits=True)
        records = tuple(read_record(hit) for hit in answer["hits"]["hits"])
        return Page(records, answer["hits"]["total"]["value"])

    def distinct(self, ask: Ask, name: str) -> int:
        """See ``Trail.distinct``."""
        counted = {"cardinality": {"field": name, "precision_threshold": _PRECISION}}
        answer = self._point.search(size=0, query=query_of(ask), aggregations={"count": counted})
        return int(answer["aggregations"]["count"]["value"])

    def tallies(self, ask: Ask) -> Tallies:
        """See ``Trail.tallies``; of the most frequent services."""
        services: dict[str, Any] = {
            "terms": {"field": "service.name", "size": SERVICES, "missing": ""},
            "aggregations": {
                "outcomes": {"terms": {"field": "event.outcome", "size": 5}},
                "actors": {"cardinality": {"field": "audit.actor.id", "precision_threshold": _PRECISION}},
                "rows": {"sum": {"field": "ml.prediction.rows"}},
                "unsealed": {"filter": {"bool": {"should": _UNSEALED_QUERY, "minimum_should_match": 1}}},
                "first": {
                    "top_hits": {"size": 1, "sort": [{"@timestamp": {"order": "asc", **_NANOSECONDS}}]}
                },
                "last": {
                    "top_hits": {"size": 1, "sort": [{"@timestamp": {"order": "desc", **_NANOSECONDS}}]}
                },
            },
        }
        answer = self._point.search(size=0, query=query_of(ask), aggregations={"services": services})
        found = answer["aggregations"]["services"]
        return Tallies(tuple(_tally(bucket) for bucket in found["buckets"]), found["sum_other_doc_count"])

    def sightings(self, name: str) -> tuple[Sighting, ...]:
        """See ``Trail.sightings``.

        Raises:
            SourceError: the cluster did not answer, or the model has more versions than the limit.
        """
        fields = ("ml.model.version", "ml.model.digest", "audit.kind", "event.outcome")
        sources = [{field: {"terms": {"field": field, "missing_bucket": True}}} for field in fields]
        times = {"first": {"min": {"field": "@timestamp"}}, "last": {"max": {"field": "@timestamp"}}}
        named = [{"term": {"ml.model.name": name}}, {"terms": {"audit.kind": list(kinds.NAMING)}}]
        found: list[Sighting] = []
        query = {"bool": {"filter": named}}
        for bucket in buckets(self._point.search, sources=sources, query=query, aggregations=times):
            if len(found) >= _SIGHTINGS:
                raise SourceError(
                    f"expected at most {_SIGHTINGS:,} versions and artifacts of {name}, found more; "
                    "narrow it with --namespace"
                )
            found.append(_sighting(bucket, fields))
        return tuple(found)

    def names(self) -> tuple[str, ...]:
        """See ``Trail.names``."""
        terms = {"terms": {"field": "ml.model.name", "size": _NAMES}}
        answer = self._point.search(size=0, aggregations={"names": terms})
        return tuple(str(bucket["key"]) for bucket in answer["aggregations"]["names"]["buckets"])


#: Records that no process sealed, or that have no place in a chain.
_UNSEALED_QUERY: Final[list[dict[str, Any]]] = [
    {"term": {_UNSEALED: True}},
    {"bool": {"must_not": [{"exists": {"field": "audit.sequence.stream_id"}}]}},
]


def query_of(ask: Ask) -> dict[str, Any]:
    """The query in Elasticsearch's query DSL."""
    filters: list[dict[str, Any]] = [
        {"terms": {"audit.kind": list(ask.kinds)}},
        {"bool": {"should": [_match(match) for match in ask.any_of], "minimum_should_match": 1}},
    ]
    times = {name: time for name, time in (("gte", ask.since), ("lt", ask.until)) if time}
    if times:
        filters.append({"range": {"@timestamp": times}})
    return {"bool": {"filter": filters}}


def _match(match: Match) -> dict[str, Any]:
    filters: list[dict[str, Any]] = [{"terms": {name: list(values)}} for name, values in match.terms]
    if match.below is not None:
        filters.append({"range": {match.below[0]: {"lt": match.below[1]}}})
    absent = [{"exists": {"field": name}} for name in match.absent]
    return {"bool": {"filter": filters, **({"must_not": absent} if absent else {})}}


def read_record(hit: Mapping[str, Any]) -> Record:
    """One hit of a search; see ``trail.Record``."""
    document = hit["_source"]
    stored = read_hit(dict(hit))
    unsealed = document.get(_UNSEALED) is True
    if stored.fault:
        # Without a readable original, the document is all there is.
        return Record(
            id=str(document.get("audit.record.id") or hit["_id"]),
            kind=str(document.get("audit.kind", "")),
            time=str(document.get("@timestamp", "")),
            fields=document,
            sealed=False,
            fault="" if unsealed else f"its original is {stored.fault}",
        )
    fields = orjson.loads(document["event.original"].encode("utf-8", "surrogatepass"))
    stream_id = fields.get("audit.sequence.stream_id")
    stream = stream_id if isinstance(stream_id, str) else ""
    faults = [
        f"{one.name} is searchable as {one.found}, sealed as {one.expected}" for one in stored.differences[:3]
    ]
    if stored.hash_differs:
        faults.insert(0, "its hash is not that of its original")
    return Record(
        id=stored.record_id or str(hit["_id"]),
        kind=stored.kind,
        time=stored.time,
        fields=fields,
        stream_id=stream,
        sequence=stored.own_sequence,
        sealed=bool(stream) and not unsealed,
        fault="; ".join(faults),
    )


def _tally(bucket: Mapping[str, Any]) -> Tally:
    return Tally(
        service=str(bucket["key"]),
        count=bucket["doc_count"],
        first=read_record(bucket["first"]["hits"]["hits"][0]),
        last=read_record(bucket["last"]["hits"]["hits"][0]),
        outcomes={str(one["key"]): one["doc_count"] for one in bucket["outcomes"]["buckets"]},
        actors=int(bucket["actors"]["value"]),
        rows=int(bucket["rows"]["value"] or 0),
        unsealed=bucket["unsealed"]["doc_count"],
    )


def _sighting(bucket: Mapping[str, Any], fields: tuple[str, ...]) -> Sighting:
    version, digest, kind, outcome = (str(bucket["key"].get(field) or "") for field in fields)
    first, last = (str(bucket[name].get("value_as_string", "")) for name in ("first", "last"))
    return Sighting(version, digest, kind, outcome, bucket["doc_count"], first, last)
