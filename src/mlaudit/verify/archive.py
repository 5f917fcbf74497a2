"""Reads file archives: OTLP JSON, one export request a line, as the collector's file exporter writes them."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from mlaudit.errors import SourceError
from mlaudit.seal import finding as codes
from mlaudit.seal.finding import Finding
from mlaudit.seal.stored import Claims, StoredRecord, observe, parse_original
from mlaudit.verify.projection import compare_attributes
from mlaudit.verify.source import Remarks, Selection, attribute_claims

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCOPE: Final = "mlaudit"
_KINDS: Final = "audit."
# A line holds one batch. Longer ones are not read into memory.
_LINE_BYTES: Final = 256 << 20


class ArchiveSource:
    """Archive files. The order of lines means nothing: a batch that was sent again may come later."""

    complete = True
    live = False

    def __init__(self, files: list[Path], path: Path) -> None:
        self.name = str(path)
        self._files = files

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        """See ``Source.read``; line by line."""
        for path in self._files:
            try:
                with path.open("rb") as raw:
                    packed = raw.read(2) == b"\x1f\x8b"
                    raw.seek(0)
                    yield from _read_file(
                        gzip.GzipFile(fileobj=raw) if packed else raw, path, selection, remarks
                    )
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                text = f"the compressed file ends early or is damaged: {error}"
                remarks.findings.append(Finding(codes.SOURCE_DAMAGED, text, where=str(path)))
            except OSError as error:
                raise SourceError(
                    f"{path}: expected a readable file, found {error.strerror or error}"
                ) from None


def _read_file(
    file: IO[bytes] | gzip.GzipFile, path: Path, selection: Selection, remarks: Remarks
) -> Iterator[StoredRecord]:
    number = 0
    while line := file.readline(_LINE_BYTES):
        number += 1
        try:
            request = orjson.loads(line)
            log_records = list(_log_records(request))
        except (ValueError, AttributeError, TypeError):
            if line.endswith(b"\n") or len(line) >= _LINE_BYTES:
                text = f"line {number} is no OTLP JSON"
                remarks.findings.append(Finding(codes.SOURCE_DAMAGED, text, where=f"{path}:{number}"))
            elif line.strip():
                text = f"the last line, {len(line)} bytes, was cut off by a crash, or is being written"
                remarks.findings.append(Finding(codes.SOURCE_TORN, text, where=f"{path}:{number}"))
            continue
        for log_record in log_records:
            record = _record(log_record, f"{path}:{number}")
            if selection.takes_stream(record.stream_id):
                yield record


def _log_records(request: Any) -> Iterator[dict[str, Any]]:
    for resource_logs in request.get("resourceLogs", ()):
        for scope_logs in resource_logs.get("scopeLogs", ()):
            if scope_logs.get("scope", {}).get("name") != _SCOPE:
                continue  # ordinary logs of the service
            for log_record in scope_logs.get("logRecords", ()):
                if log_record.get("eventName", "").startswith(_KINDS) or _has_place(log_record):
                    yield log_record


def _record(log_record: dict[str, Any], where: str) -> StoredRecord:
    body = (log_record.get("body") or {}).get("stringValue")
    original = body.encode() if type(body) is str else b""
    attributes = _attributes(log_record.get("attributes") or ())
    record_id, stated_hash, stream_id, sequence = attribute_claims(attributes)
    claims = Claims(record_id, stated_hash, sequence, ((stream_id, sequence),), where)
    fields = parse_original(original)
    if fields is None:
        return observe(original, None, claims)
    return observe(
        original, fields, claims, compare_attributes(attributes, log_record.get("eventName", ""), fields)
    )


def _has_place(log_record: dict[str, Any]) -> bool:
    """Whether a record whose event name is another claims a place in a stream all the same."""
    return any(pair.get("key") == "audit.sequence.stream_id" for pair in log_record.get("attributes") or ())


def _attributes(pairs: Any) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {}
    for pair in pairs:
        value = pair.get("value") or {}
        if "stringValue" in value:
            attributes[pair["key"]] = value["stringValue"]
        elif "intValue" in value:
            attributes[pair["key"]] = _integer(value["intValue"])
        elif value:
            attributes[pair.get("key", "")] = orjson.dumps(value).decode()
    return attributes


def _integer(value: Any) -> str | int:
    """OTLP JSON writes 64-bit integers as text."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return str(value)
