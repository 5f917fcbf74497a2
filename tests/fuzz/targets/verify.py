"""Spool folders and archives of any content under ``mlaudit verify``: a report or SourceError, safe for a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import orjson
from rich.console import Console
from tests.fuzz.choices import Choices
from tests.fuzz.ground import assert_plain, fresh_folder
from tests.fuzz.targets.spool import damage, fill_stream
from tests.sealed import KEYS, NOW, Document, archive_line, copy_of, log_record, make_stream, payload

from mlaudit.cli.verify_report import print_report
from mlaudit.deliver.spool import files, layout
from mlaudit.errors import SourceError
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.sources.source import Source
from mlaudit.verify.verification import verify_source

_STREAM = make_stream(8, every=4)
_NAMES = (
    "resourceLogs", "scopeLogs", "logRecords", "scope", "name", "eventName", "body", "stringValue", "attributes",
    "key", "value", "intValue",
    "audit.sequence.number", "audit.sequence.stream_id", "audit.integrity.value", "audit.record.id", "mlaudit",
    "audit.ml.prediction",
)  # fmt: skip


def prove(source: Source) -> None:
    """Verifies a source and checks the report in text and JSON."""
    try:
        report = verify_source(source, KEYS, now=NOW, settle=0)
    except SourceError as error:
        assert str(error)
        return
    json.dumps(report.to_json())
    written = io.StringIO()
    print_report(report, Console(file=written, highlight=False, width=200, no_color=True))
    assert_plain(written.getvalue())


def run_spool(data: bytes) -> None:
    """A spool of frames that are genuine, altered, reordered or noise."""
    choices = Choices(data)
    with fresh_folder() as root:
        folder = layout.stream_folder(root, "019ab8a0-0000-7000-8000-000000000001")
        if choices.seldom():
            fill_stream(folder, choices)
        else:
            folder.mkdir()
            layout.lock_file(folder).touch()
            _write_genuine(folder, choices)
        try:
            source = open_source(root)
        except SourceError:
            return
        prove(source)


def _write_genuine(folder: Path, choices: Choices) -> None:
    content = b""
    for stored in _STREAM:
        body = payload(stored)
        if choices.seldom():
            body = choices.mutated(body)
        digest = bytes.fromhex(stored.hash)
        sequence = choices.integer() % 2**64 if choices.seldom() else stored.sequence
        content += files.frame(sequence, digest, body)
        if choices.seldom():
            content += damage(choices)
    layout.segment_file(folder, 1).write_bytes(content)
    if choices.seldom():
        quarantine = layout.quarantine_folder(folder)
        quarantine.mkdir()
        (quarantine / f"{choices.below(100):020d}.otlp").write_bytes(choices.bytes(200))


def run_archive(data: bytes) -> None:
    """An archive of lines that are genuine, altered, JSON of another shape, or noise."""
    choices = Choices(data)
    with fresh_folder() as root:
        path = root / ("archive.jsonl.gz" if choices.seldom() else "archive.jsonl")
        path.write_bytes(b"".join(_line(choices) for _ in range(1 + choices.below(5))))
        prove(open_source(path))


def _line(choices: Choices) -> bytes:
    way = choices.below(5)
    documents = copy_of(_STREAM)
    if way == 0:
        return choices.rest() + b"\n"
    if way == 1:
        return choices.mutated(archive_line(documents).encode())
    if way == 2:
        return _dumped(_shape(choices, 6)) + b"\n"
    records = [log_record(_altered(stored, choices)) for stored in documents[: choices.below(9)]]
    for record in records:
        if choices.below(4) == 3:
            record[choices.pick(("eventName", "body", "attributes"))] = _shape(choices, 3)
        elif choices.seldom():
            record["attributes"].append(_shape(choices, 3))
    scope = {"scope": {"name": "mlaudit"}, "logRecords": records}
    return _dumped({"resourceLogs": [{"scopeLogs": [scope]}]}) + b"\n"


def _altered(stored: Document, choices: Choices) -> Document:
    if choices.seldom():
        fields = stored.fields
        fields[choices.pick(sorted(fields))] = choices.json(3)
        stored.original = _dumped(fields)
    return stored


def _shape(choices: Choices, depth: int) -> object:
    """JSON with the reader's names in unexpected places."""
    kind = choices.below(4)
    if depth == 0 or kind == 0:
        return choices.pick(_NAMES) if choices.often() else choices.scalar()
    if kind == 1:
        return [_shape(choices, depth - 1) for _ in choices.some(3)]
    return {choices.pick(_NAMES): _shape(choices, depth - 1) for _ in choices.some(4)}


def _dumped(value: object) -> bytes:
    """As JSON, including NaN and lone surrogates, which an attacker could write too."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
