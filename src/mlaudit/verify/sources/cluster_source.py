"""Reads the data streams ``logs-mlaudit.*`` under one point in time, page by page."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from elasticsearch import ApiError, TransportError

from mlaudit.cluster.client import Auth, connect, explained
from mlaudit.errors import InstallError, SourceError
from mlaudit.verify.proof.stored import Claims, StoredRecord, document_id, observe, parse_original
from mlaudit.verify.sources.projection import ABSENT, UNSEALED, compare_document, data_stream, misplaced
from mlaudit.verify.sources.unsealed import examine_unsealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from elasticsearch import Elasticsearch

    from mlaudit.verify.sources.source import Remarks, Selection

_PAGE: Final = 2000
_COLUMNS_PAGE: Final = 10_000
_TERMS: Final = 1000
_KEEP_ALIVE: Final = "5m"
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
    """Where one document stands, as its searchable fields say."""

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
        """``namespace`` is that of the data streams; ``*`` for all.

        Raises:
            SourceError: the address or the CA file cannot be used.
        """
        self.name = url
        self._index = f"logs-mlaudit.*-{namespace}"
        self._page = page
        try:
            self._client: Elasticsearch = connect(url, auth, ca_file)
        except InstallError as error:
            raise SourceError(str(error)) from None

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """See ``Source.read``; holds one page of documents."""
        try:
            with explained(self.name, "reading audit documents"):
                self._refresh()
                point = self._client.open_point_in_time(index=self._index, keep_alive=_KEEP_ALIVE)["id"]
                try:
                    for query in self._queries(point, selection):
                        yield from self._judged(self._pages(point, query), remarks)
                finally:
                    self._close_point(point)
        except InstallError as error:
            raise SourceError(str(error)) from None

    def _judged(self, hits: Iterable[dict[str, Any]], remarks: Remarks) -> Iterator[StoredRecord]:
        """The sealed records among the hits; of the others a remark."""
        for hit in hits:
            findings = examine_unsealed(hit)
            if findings is None:
                yield read_hit(hit)
                continue
            remarks.unsealed += 1
            for found in findings:
                remarks.note(found)

    def places(self, streams: Iterable[str]) -> Iterator[Place]:
        """Where each document of some streams has its place; reads no originals but of those without fields.

        Raises:
            SourceError: the cluster could not be looked at.
        """
        names = sorted(streams)
        # What the collector made itself has no place. A record to which somebody adds the mark, and from which
        # they take the searchable place, counts as missing.
        unplaced = {"bool": {"must_not": [{"exists": {"field": _STREAM}}, {"term": {UNSEALED: True}}]}}
        try:
            with explained(self.name, "reading the places of audit documents"):
                self._refresh()
                point = self._client.open_point_in_time(index=self._index, keep_alive=_KEEP_ALIVE)["id"]
                try:
                    for start in range(0, len(names), _TERMS):
                        chosen = {"terms": {_STREAM: names[start : start + _TERMS]}}
                        for hit in self._pages(point, {"bool": {"filter": [chosen]}}, _PLACE_FIELDS):
                            values = {name: found[0] for name, found in hit.get("fields", {}).items()}
                            yield _place(hit["_index"], values)
                    for hit in self._pages(point, unplaced):
                        fields = parse_original(str(hit["_source"].get("event.original", "")).encode()) or {}
                        yield _place(hit["_index"], {**fields, **hit["_source"]})
                finally:
                    self._close_point(point)
        except InstallError as error:
            raise SourceError(str(error)) from None

    def _refresh(self) -> None:
        """Makes what was just stored visible, if the reader may."""
        try:
            self._client.indices.refresh(index=self._index)
        except ApiError:
            return  # the next periodic refresh does it

    def _close_point(self, point: str) -> None:
        try:
            self._client.close_point_in_time(id=point)
        except (ApiError, TransportError):
            return  # it closes itself

    def _queries(self, point: str, selection: Selection) -> Iterator[dict[str, Any]]:
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
        # What has no place in any stream is still to be looked at.
        yield {"bool": {"filter": [window], "must_not": [{"exists": {"field": _STREAM}}]}}

    def _cuts(self, point: str, window: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
        after: dict[str, Any] = {}
        while True:
            composite = {"size": 1000, "sources": [{"stream": {"terms": {"field": _STREAM}}}], **after}
            answer = self._client.search(
                pit={"id": point, "keep_alive": _KEEP_ALIVE},
                size=0,
                query=window,
                aggregations={
                    "streams": {
                        "composite": composite,
                        "aggregations": {
                            "first": {"min": {"field": _NUMBER}},
                            "last": {"max": {"field": _NUMBER}},
                        },
                    }
                },
            )
            found = answer["aggregations"]["streams"]
            for bucket in found["buckets"]:
                if bucket["first"]["value"] is not None:
                    yield bucket["key"]["stream"], int(bucket["first"]["value"]), int(bucket["last"]["value"])
            if "after_key" not in found:
                return
            after = {"after": found["after_key"]}

    def _pages(
        self, point: str, query: dict[str, Any], columns: list[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The hits, page by page; with ``columns`` only those values, without the documents."""
        size = _COLUMNS_PAGE if columns and self._page == _PAGE else self._page
        after: list[Any] | None = None
        while True:
            answer = self._client.search(
                pit={"id": point, "keep_alive": _KEEP_ALIVE},
                size=size,
                query=query,
                source=columns is None,
                docvalue_fields=[{"field": name} for name in columns] if columns else None,
                sort=_SORT,
                search_after=after,
                track_total_hits=False,
            )
            if answer["_shards"]["failed"]:
                failed = answer["_shards"]["failed"]
                raise SourceError(f"{self.name}: {failed} shards did not answer; that proves nothing")
            hits = answer["hits"]["hits"]
            yield from hits
            if len(hits) < size:
                return
            after = hits[-1]["sort"]


def read_hit(hit: dict[str, Any]) -> StoredRecord:
    """One document of a search's answer as a stored record."""
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
    """A sequence as Elasticsearch gives it back, e.g. ``2.0``; 0 for anything else."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and value > 0 else 0
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
