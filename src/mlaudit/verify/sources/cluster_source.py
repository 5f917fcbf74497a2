"""Reads the data streams ``logs-mlaudit.*`` under one point in time, page by page."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.cluster.client import Auth, connect
from mlaudit.cluster.page import PointInTime, buckets, hits, refresh
from mlaudit.verify.proof.stored import Claims, StoredRecord, document_id, observe, parse_original
from mlaudit.verify.sources.projection import ABSENT, UNSEALED, compare_document, data_stream, misplaced
from mlaudit.verify.sources.unsealed import examine_unsealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from elasticsearch import Elasticsearch

    from mlaudit.cluster.page import Hit
    from mlaudit.verify.sources.source import Remarks, Selection

_PAGE: Final = 2000
_COLUMNS_PAGE: Final = 10_000
_TERMS: Final = 1000
_STREAM: Final = "audit.sequence.stream_id"
_NUMBER: Final = "audit.sequence.number"
_CLASS: Final = re.compile(r"logs-mlaudit[.]([a-z]+)-")
_SIGNED: Final = "audit.checkpoint.sequence"
# By the searchable place: mostly the true order already, and a repeatable one. A changed place is noticed because the
# records are put in order by what their originals say.
_SORT: Final[list[dict[str, Any]]] = [
    {_STREAM: {"order": "asc", "missing": "_last", "unmapped_type": "keyword"}},
    {_NUMBER: {"order": "asc", "missing": "_last", "unmapped_type": "long"}},
    {"_shard_doc": "asc"},
]
_PLACE_FIELDS: Final = [_STREAM, _NUMBER, "event.hash", "audit.sequence.previous_hash"]


class Place(NamedTuple):
    """The place of one document in its stream, according to its searchable fields."""

    stream_id: str
    sequence: int
    hash: str
    previous_hash: str
    record_class: str


class ElasticsearchSource:
    """The audit documents of a cluster."""

    complete = True
    live = True

    def __init__(
        self,
        url: str,
        auth: Auth = None,
        *,
        ca_file: Path | None = None,
        namespace: str = "*",
        page: int = _PAGE,
    ) -> None:
        """``namespace``: of the data streams; ``*`` for all.

        Raises:
            SourceError: the address or the CA file cannot be used.
        """
        self.name = url
        self._index = f"logs-mlaudit.*-{namespace}"
        self._page = page
        self._client: Elasticsearch = connect(url, auth, ca_file)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """See ``Source.read``; holds one page of documents."""
        with self._point("reading audit documents") as point:
            for query in self._queries(point, selection):
                yield from self._judged(self._documents(point, query), remarks)

    def _judged(self, found: Iterable[Hit], remarks: Remarks) -> Iterator[StoredRecord]:
        """The sealed records among the hits; the others become remarks."""
        for hit in found:
            findings = examine_unsealed(hit)
            if findings is None:
                yield read_hit(hit)
                continue
            remarks.unsealed += 1
            for finding in findings:
                remarks.note(finding)

    def places(self, streams: Iterable[str]) -> Iterator[Place]:
        """The place of each document of some streams; reads originals only of documents without the fields.

        Raises:
            SourceError: the cluster could not be checked.
        """
        names = sorted(streams)
        # What the collector made itself has no place. A record to which somebody adds the mark, and from which
        # they take the searchable place, counts as missing.
        unplaced = {"bool": {"must_not": [{"exists": {"field": _STREAM}}, {"term": {UNSEALED: True}}]}}
        with self._point("reading the places of audit documents") as point:
            for start in range(0, len(names), _TERMS):
                chosen = {"bool": {"filter": [{"terms": {_STREAM: names[start : start + _TERMS]}}]}}
                for hit in self._columns(point, chosen):
                    values = {name: found[0] for name, found in hit.get("fields", {}).items()}
                    yield _place(hit["_index"], values)
            for hit in self._documents(point, unplaced):
                fields = parse_original(str(hit["_source"].get("event.original", "")).encode()) or {}
                yield _place(hit["_index"], {**fields, **hit["_source"]})

    def _point(self, doing: str) -> PointInTime:
        refresh(self._client, self._index, doing)
        return PointInTime(self._client, self._index, doing)

    def _queries(self, point: PointInTime, selection: Selection) -> Iterator[dict[str, Any]]:
        """One query for everything, or, where time cuts streams, one for the cut of each stream."""
        streams: list[dict[str, Any]] = []
        if selection.streams is not None:
            streams.append({"terms": {_STREAM: sorted(selection.streams)}})
        if selection.signed:
            streams.append({"exists": {"field": _SIGNED}})
        if not selection.is_window:
            yield {"bool": {"filter": streams}} if streams else {"match_all": {}}
            return
        times = {"gte": selection.since} if selection.since else {}
        if selection.until:
            times["lt"] = selection.until
        window = {"bool": {"filter": [{"range": {"@timestamp": times}}, *streams]}}
        for stream_id, first, last in self._cuts(point, window):
            place = [{"term": {_STREAM: stream_id}}, {"range": {_NUMBER: {"gte": first, "lte": last}}}]
            yield {"bool": {"filter": place}}
        # Documents without a place in any stream are still to be checked.
        yield {"bool": {"filter": [window], "must_not": [{"exists": {"field": _STREAM}}]}}

    def _cuts(self, point: PointInTime, window: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
        sources = [{"stream": {"terms": {"field": _STREAM}}}]
        numbers = {"first": {"min": {"field": _NUMBER}}, "last": {"max": {"field": _NUMBER}}}
        for bucket in buckets(point.search, sources=sources, query=window, aggregations=numbers):
            if bucket["first"]["value"] is not None:
                yield bucket["key"]["stream"], int(bucket["first"]["value"]), int(bucket["last"]["value"])

    def _documents(self, point: PointInTime, query: dict[str, Any]) -> Iterator[Hit]:
        return hits(point.search, query=query, sort=_SORT, size=self._page)

    def _columns(self, point: PointInTime, query: dict[str, Any]) -> Iterator[Hit]:
        """Hits with the fields of their place only, without the documents."""
        columns = [{"field": name} for name in _PLACE_FIELDS]
        size = _COLUMNS_PAGE if self._page == _PAGE else self._page
        return hits(point.search, query=query, sort=_SORT, size=size, source=False, docvalue_fields=columns)


def read_hit(hit: dict[str, Any]) -> StoredRecord:
    """One hit of a search as a stored record."""
    document = hit["_source"]
    text = document.get("event.original")
    original = text.encode("utf-8", "surrogatepass") if type(text) is str else b""
    stored_hash = document.get("event.hash")
    sequence = _integer(document.get("event.sequence"))
    stream_id = document.get(_STREAM)
    fields = parse_original(original)
    class_, namespace = data_stream(hit["_index"])
    identity = hit["_id"]
    if fields is not None:
        record_id = fields.get("audit.record.id")
        if identity == document_id(record_id, sha256(original).hexdigest()):
            identity = str(record_id)
    claims = Claims(
        identity,
        stored_hash if type(stored_hash) is str and stored_hash else ABSENT,
        sequence or -1,
        ((stream_id if type(stream_id) is str else "", _integer(document.get(_NUMBER))), ("", sequence)),
        f"{hit['_index']}/{hit['_id']}",
        namespace,
    )
    if fields is None:
        return observe(original, None, claims)
    differences = compare_document(document, fields, class_, namespace)
    return observe(original, fields, claims, differences, misplaced(class_, namespace, fields))


def _place(index: str, source: dict[str, Any]) -> Place:
    named = _CLASS.search(index)
    return Place(
        str(source.get(_STREAM) or ""),
        _integer(source.get(_NUMBER)),
        str(source.get("event.hash") or ""),
        str(source.get("audit.sequence.previous_hash") or ""),
        named[1] if named else "",
    )


def _integer(value: Any) -> int:
    """A sequence as Elasticsearch returns it, e.g. ``2.0``; 0 for anything else."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and value > 0 else 0
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
