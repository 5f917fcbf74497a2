"""Archive and spool as stores of a trail: every tamper is written to its own folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tamper.entry import STREAM, Entry, FrameOf, Line
from tests.tamper.stores import Edit, order

from mlaudit.deliver.spool import files, frames, layout
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.sources.source import Source


class Archive:
    """An archive file in memory; every tamper is written to its own folder."""

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
        """Stores a line again, at the end."""
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
    """Spool segments in memory; every tamper is written to its own folder."""

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
