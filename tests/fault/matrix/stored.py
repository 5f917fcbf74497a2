"""What of a service is in Elasticsearch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from elasticsearch import Elasticsearch

from mlaudit.cluster.page import PointInTime, hits
from mlaudit.verify.sources.source import Remarks, Selection, Source

INDEX = "logs-mlaudit.*"
_PAGE = 10_000
_OWN = ("audit.stream.", "audit.policy.", "audit.service.", "audit.pipeline.", "audit.environment.")


@dataclass
class Stored:
    """The documents of one service, counted.

    Attributes:
        records: by record id; a count above one is a duplicate.
        requests: by ``http.request.id``, of records of requests.
        kinds: by kind.
        streams: by stream id.
        work: ids of the records of the service's work, without those of the trail about itself.
    """

    records: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    work: set[str] = field(default_factory=set)

    @property
    def documents(self) -> int:
        """All of them."""
        return self.records.total()

    @property
    def repeated(self) -> int:
        """Documents beyond the first of each record, and of each request."""
        ids = self.records.total() - len(self.records)
        return ids + self.requests.total() - len(self.requests)


def _refresh(client: Elasticsearch) -> None:
    """Makes everything searchable; an index that is just being made answers 503 until its shards have started."""
    client.cluster.health(index=INDEX, wait_for_status="yellow", timeout="60s", expand_wildcards="all")
    client.indices.refresh(index=INDEX, ignore_unavailable=True, allow_no_indices=True)


def count(client: Elasticsearch, service: str) -> int:
    """How many documents of a service can be searched."""
    _refresh(client)
    answer = client.count(index=INDEX, query={"term": {"service.name": service}}, allow_no_indices=True)
    return int(answer["count"])


def look_up(client: Elasticsearch, service: str) -> Stored:
    """Every document of a service."""
    _refresh(client)
    found = Stored()
    for hit in _hits(client, service):
        fields = hit.get("fields", {})
        record_id = (fields.get("audit.record.id") or [hit["_id"]])[0]
        kind = (fields.get("audit.kind") or [""])[0]
        found.records[record_id] += 1
        found.kinds[kind] += 1
        found.streams[(fields.get("audit.sequence.stream_id") or [""])[0]] += 1
        if not kind.startswith(_OWN):
            found.work.add(record_id)
        for request in fields.get("http.request.id", ()):
            found.requests[request] += 1
    return found


def sources(client: Elasticsearch, service: str, kind: str) -> list[dict[str, Any]]:
    """The documents of one kind of a service, whole, oldest first; for kinds of which there are few."""
    _refresh(client)
    query = {"bool": {"filter": [{"term": {"service.name": service}}, {"term": {"audit.kind": kind}}]}}
    answer = client.search(index=INDEX, query=query, size=1000, sort=[{"@timestamp": "asc"}])
    return [hit["_source"] for hit in answer["hits"]["hits"]]


def _hits(client: Elasticsearch, service: str) -> Iterator[dict[str, Any]]:
    columns = ["audit.record.id", "audit.kind", "audit.sequence.stream_id", "http.request.id"]
    with PointInTime(client, INDEX, "counting documents") as point:
        yield from hits(
            point.search,
            query={"term": {"service.name": service}},
            docvalue_fields=[{"field": name} for name in columns],
            source=False,
            size=_PAGE,
            sort=[{"_shard_doc": "asc"}],
        )


class OfStreams:
    """A source of which only some streams are looked at: those of one cell."""

    def __init__(self, source: Source, streams: frozenset[str]) -> None:
        self._source = source
        self._streams = streams

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[Any]:
        """See ``Source.read``."""
        if selection.streams is None:
            selection = replace(selection, streams=self._streams)
        return self._source.read(selection, remarks)
