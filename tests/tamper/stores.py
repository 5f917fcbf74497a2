"""The three stores of a trail, each with the same three steps: read it, apply an edit, take it back."""

from __future__ import annotations

import json
import shutil
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from elasticsearch import Elasticsearch
from tests.tamper.entry import STREAM, Entry, FrameOf, Hit, Line

from mlaudit.deliver import files, frames, layout
from mlaudit.seal.stored import StoredRecord
from mlaudit.verify.elasticsearch import ElasticsearchSource
from mlaudit.verify.source import Remarks, Selection, Source, open_source

INDEX = "logs-mlaudit.*"


@dataclass
class Edit:
    """What is done to a store.

    Attributes:
        changed: what stands in the place of an entry; None removes it.
        added: entries that come behind another one.
        cut: bytes that are cut off the end of the file that holds an entry, counted from that entry's end, negative
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
        """What verify reads now."""
        ...

    def apply(self, edit: Edit) -> None:
        """Plants a tamper."""
        ...

    def undo(self) -> None:
        """Takes it back."""
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
        """``alone``: the cluster holds nothing but this trail, so verify may look at everything."""
        self._client = client
        self._source: Source = source if alone else _Own(source, streams)
        self._streams = streams
        self._undo: list[dict[str, Any]] = []
        self._gone: list[Entry] = []
        self.entries: list[Entry] = self.read()

    def read(self, *more: str) -> list[Entry]:
        """Every document, as it is now; of ``more`` streams too."""
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
        # Deleted and created, since no backing index takes an update without the number of the document's version.
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
            # What is created again lies in the newest backing index of its data stream.
            entry.raw["_index"] = places[entry.raw["_id"]]
        self._undo, self._gone = [], []

    def remove(self) -> None:
        """Deletes every document of the trail."""
        gone = self.read()
        self._bulk([{"delete": {"_index": e.raw["_index"], "_id": e.raw["_id"]}} for e in gone])

    def _bulk(self, actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answer = self._client.bulk(operations=actions, refresh=True)
        items: list[dict[str, Any]] = answer["items"]
        for item in items:
            (done,) = item.values()
            assert done.get("result") in ("created", "deleted"), f"Elasticsearch refused: {done}"
        return items


class _Own:
    """A trail in a cluster that others write to as well; streams forged from its own count as its own."""

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


class Archive:
    """An archive file in memory; every tamper is written to a folder of its own."""

    name = "archive"
    complete = True

    def __init__(self, path: Path, streams: Sequence[str] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mlaudit-tamper-"))
        self.path = self._folder / "archive.jsonl"
        self._lines: list[tuple[bytes, dict[str, Any]]] = []
        self.entries: list[Entry] = []
        for raw in path.read_bytes().splitlines(keepends=True):
            request = json.loads(raw)
            kept = False
            for records in _record_lists(request):
                for position, record in enumerate(records):
                    fields = json.loads(record["body"]["stringValue"])
                    stream = str(fields[STREAM])
                    if streams is None or stream in streams:
                        kept = True
                    place = (len(self._lines), id(records), position)
                    entry = Line(stream, fields["audit.sequence.number"], place, record)
                    if streams is None or stream in streams:
                        self.entries.append(entry)
            if kept:
                self._lines.append((raw, request))
            else:
                continue
        self.entries = order(self.entries)
        self.undo()

    @property
    def lines(self) -> int:
        """How many."""
        return len(self._lines)

    def of_line(self, number: int) -> list[Entry]:
        """The entries of one line."""
        return [entry for entry in self.entries if entry.place[0] == number]

    def source(self) -> Source:
        return open_source(self._folder)

    def apply(self, edit: Edit) -> None:
        touched = {entry.place[0] for entry in edit.changed} | {entry.place[0] for entry, _ in edit.added}
        broken = {entry.place[0] for entry in edit.broken}
        out = bytearray()
        by_place = {entry.place: new for entry, new in edit.changed.items()}
        behind: dict[Any, list[Entry]] = {}
        for entry, new in edit.added:
            behind.setdefault(entry.place, []).append(new)
        for number, (raw, request) in enumerate(self._lines):
            line = raw
            if number in touched:
                line = self._rebuilt(number, request, by_place, behind)
            if number in broken:
                line = line[: len(line) // 3] + b"\n"
            out += line
            if edit.cut is not None and edit.cut[0].place[0] == number:
                end = len(out) + edit.cut[1]
                del out[end:]
                break
        self.path.write_bytes(out)

    def repeat_line(self, number: int) -> None:
        """Stores a line once more, at the end."""
        self.path.write_bytes(b"".join(raw for raw, _ in self._lines) + self._lines[number][0])

    def undo(self) -> None:
        self.path.write_bytes(b"".join(raw for raw, _ in self._lines))

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _rebuilt(
        self,
        number: int,
        request: dict[str, Any],
        by_place: Mapping[Any, Entry | None],
        behind: Mapping[Any, list[Entry]],
    ) -> bytes:
        copied = json.loads(json.dumps(request))
        for records, kept in zip(_record_lists(request), _record_lists(copied), strict=True):
            result: list[dict[str, Any]] = []
            for position, record in enumerate(records):
                place = (number, id(records), position)
                new = by_place.get(place)
                if new is not None:
                    result.append(new.raw)
                elif place not in by_place:
                    result.append(record)
                result += [entry.raw for entry in behind.get(place, ())]
            kept[:] = result
        return json.dumps(copied, ensure_ascii=False).encode() + b"\n"


def _record_lists(request: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [
        scope["logRecords"]
        for resource in request.get("resourceLogs", [])
        for scope in resource.get("scopeLogs", [])
    ]


class Spool:
    """Spool segments in memory; every tamper is written to a folder of its own."""

    name = "spool"
    complete = False

    def __init__(self, spool: Path, streams: Sequence[str] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mlaudit-tamper-"))
        self.entries: list[Entry] = []
        self._touched: set[tuple[str, str]] = set()
        self._forged: set[Path] = set()
        self._segments: dict[tuple[str, str], list[Entry]] = {}
        for folder in sorted(path for path in spool.iterdir() if path.is_dir()):
            if streams is not None and folder.name not in streams:
                continue
            for segment in layout.segments(folder):
                found, rest = files.read_frames(segment)
                assert not rest
                place = (folder.name, segment.name)
                self._segments[place] = [
                    FrameOf(
                        folder.name,
                        frame.sequence,
                        place,
                        {
                            "sequence": frame.sequence,
                            "digest": frame.digest.hex(),
                            "payload": b64encode(frame.payload).decode(),
                        },
                    )
                    for frame in found
                ]
                self.entries += self._segments[place]
        self.entries = order(self.entries)
        self._streams = {entry.stream for entry in self.entries}
        for place in self._segments:
            self._write(place, Edit())

    def source(self) -> Source:
        return open_source(self._folder)

    def apply(self, edit: Edit) -> None:
        touched = {entry.place for entry in edit.changed} | {entry.place for entry, _ in edit.added}
        touched |= {entry.place for entry in edit.broken}
        if edit.cut is not None:
            touched.add(edit.cut[0].place)
        for place in touched:
            self._write(place, edit)
        self._touched = touched
        forged = [new for _, new in edit.added if new.stream not in self._streams]
        self._forged = {self._folder / new.stream for new in forged}
        for folder in self._forged:
            folder.mkdir()
            data = b"".join(_frame(new) for new in forged if new.stream == folder.name)
            layout.segment_file(folder, 1).write_bytes(data)

    def undo(self) -> None:
        for place in self._touched:
            self._write(place, Edit())
        for folder in self._forged:
            shutil.rmtree(folder)
        self._touched, self._forged = set(), set()

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, place: tuple[str, str], edit: Edit) -> None:
        out = bytearray()
        for entry in self._segments[place]:
            new = edit.changed.get(entry, entry)
            if new is not None:
                data = _frame(new)
                if entry in edit.broken:
                    data[len(data) // 2] ^= 0x55
                out += data
            for anchor, added in edit.added:
                if anchor is entry and added.stream in self._streams:
                    out += _frame(added)
            if edit.cut is not None and edit.cut[0] is entry:
                end = len(out) + edit.cut[1]
                del out[end:]
                break
        path = self._folder / place[0] / place[1]
        path.parent.mkdir(exist_ok=True)
        if out:
            path.write_bytes(out)
            return
        path.unlink(missing_ok=True)
        if not layout.segments(path.parent):
            path.parent.rmdir()


def _frame(entry: Entry) -> bytearray:
    raw = entry.raw
    data = bytearray(frames.frame(raw["sequence"], bytes.fromhex(raw["digest"]), b64decode(raw["payload"])))
    if raw.get("crc") is False:
        data[4] ^= 0xFF
    return data
