"""The three stores of a trail, each with the same three steps: read, apply an edit, undo it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from elasticsearch import Elasticsearch
from tests.tamper.entry import STREAM, Entry, Hit

from mlaudit.verify.proof.stored import StoredRecord
from mlaudit.verify.sources.cluster_source import ElasticsearchSource
from mlaudit.verify.sources.source import Remarks, Selection, Source

INDEX = "logs-mlaudit.*"


@dataclass
class Edit:
    """An edit of a store.

    Attributes:
        changed: the replacement of an entry; None removes it.
        added: entries to insert after another one.
        cut: bytes to cut off the end of the file that holds an entry, counted from that entry's end, negative
            for inside it.
        broken: entries whose bytes in the file become unreadable.
    """

    changed: dict[Entry, Entry | None] = field(default_factory=dict)
    added: list[tuple[Entry, Entry]] = field(default_factory=list)
    cut: tuple[Entry, int] | None = None
    broken: tuple[Entry, ...] = ()


class Store(Protocol):
    """A store of a trail."""

    name: str
    entries: list[Entry]
    complete: bool

    def source(self) -> Source:
        """The source for verify."""
        ...

    def apply(self, edit: Edit) -> None:
        """Plants a tamper."""
        ...

    def undo(self) -> None:
        """Undoes the tamper."""
        ...


def order(entries: Iterable[Entry]) -> list[Entry]:
    """By stream and sequence."""
    return sorted(entries, key=lambda entry: (entry.stream, entry.sequence))


class Documents:
    """A real Elasticsearch, with the rights of its administrator; undone document by document."""

    name = "elasticsearch"
    complete = True

    def __init__(
        self,
        client: Elasticsearch,
        source: ElasticsearchSource,
        streams: Sequence[str],
        *,
        alone: bool = True,
    ) -> None:
        """``alone``: the cluster holds only this trail, so verify may read everything."""
        self._client = client
        self._source: Source = source if alone else _Own(source, streams)
        self._streams = streams
        self._undo: list[dict[str, Any]] = []
        self._gone: list[Entry] = []
        self.entries: list[Entry] = self.read()

    def read(self, *more: str) -> list[Entry]:
        """Every document as it is now, also of the ``more`` streams."""
        self._client.indices.refresh(index=INDEX)
        query = {"terms": {STREAM: [*self._streams, *more]}}
        answer = self._client.search(index=INDEX, size=10_000, query=query)
        hits = (dict(hit) for hit in answer["hits"]["hits"])
        return order(
            Hit(
                hit["_source"][STREAM],
                int(hit["_source"].get("event.sequence", 0)),
                hit["_index"],
                {"_id": hit["_id"], "_index": hit["_index"], "_source": hit["_source"]},
            )
            for hit in hits
        )

    def source(self) -> Source:
        return self._source

    def apply(self, edit: Edit) -> None:
        # Deleted and created, since no backing index accepts an update without the document's version number.
        self._gone = list(edit.changed)
        come = [entry for entry in edit.changed.values() if entry is not None]
        come += [entry for _, entry in edit.added]
        actions: list[dict[str, Any]] = [
            {"delete": {"_index": entry.raw["_index"], "_id": entry.raw["_id"]}} for entry in self._gone
        ]
        for entry in come:
            actions += _create(entry)
        answers = self._bulk(actions)
        self._undo = [
            {"delete": {"_index": item["create"]["_index"], "_id": item["create"]["_id"]}}
            for item in answers
            if "create" in item
        ]

    def undo(self) -> None:
        actions = list(self._undo)
        for entry in self._gone:
            actions += _create(entry)
        places = {
            item["create"]["_id"]: item["create"]["_index"]
            for item in self._bulk(actions)
            if "create" in item
        }
        for entry in self._gone:
            # A document that is created again is in the newest backing index of its data stream.
            entry.raw["_index"] = places[entry.raw["_id"]]
        self._undo, self._gone = [], []

    def remove(self) -> None:
        """Deletes every document of the trail."""
        gone = self.read()
        self._bulk([{"delete": {"_index": e.raw["_index"], "_id": e.raw["_id"]}} for e in gone])

    def _bulk(self, actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # A write refreshes only its own shards: undone documents have to become visible too.
        answer = self._client.bulk(operations=actions, refresh=True)
        items: list[dict[str, Any]] = answer["items"]
        for item in items:
            (done,) = item.values()
            assert done.get("result") in ("created", "deleted"), f"Elasticsearch refused: {done}"
        return items


class _Own:
    """A trail in a shared cluster; streams that were forged from it count as part of it."""

    complete = True
    live = True

    def __init__(self, source: ElasticsearchSource, streams: Sequence[str]) -> None:
        self.name = source.name
        self._source = source
        self._begins = tuple(stream[:-4] for stream in streams)

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """See ``Source.read``."""
        for record in self._source.read(selection, remarks):
            if record.stream_id.startswith(self._begins):
                yield record


def data_stream(index: str) -> str:
    """The data stream of a backing index."""
    return index.removeprefix(".ds-").rsplit("-", 2)[0] if index.startswith(".ds-") else index


def _create(entry: Entry) -> list[dict[str, Any]]:
    index = data_stream(str(entry.raw["_index"]))
    return [{"create": {"_index": index, "_id": entry.raw["_id"]}}, entry.raw["_source"]]
