"""Reads file archives: OTLP JSON, one export request a line, as the collector's file exporter writes them."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from mlaudit.errors import SourceError
from mlaudit.verify.proof import finding_codes as codes
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.proof.stored import Claims, StoredRecord, observe, parse_original
from mlaudit.verify.sources.projection import ABSENT, SCOPE, Outside, compare_outside
from mlaudit.verify.sources.source import Remarks, Selection, attribute_claims

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KINDS: Final = "audit."
_STREAM: Final = "audit.sequence.stream_id"
# No exporter writes such an attribute: it is reported as a difference.
_MALFORMED: Final = "audit.(malformed attribute)"
# A line holds one batch. Longer ones are not read into memory.
_LINE_BYTES: Final = 64 << 20


class ArchiveSource:
    """Archive files. The order of lines is not significant: a resent batch may come later."""

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
                remarks.note(Finding(codes.SOURCE_DAMAGED, text, where=str(path)))
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
                remarks.note(Finding(codes.SOURCE_DAMAGED, text, where=f"{path}:{number}"))
            elif line.strip():
                text = f"the last line, {len(line)} bytes, was cut off by a crash, or is being written"
                remarks.note(Finding(codes.SOURCE_TORN, text, where=f"{path}:{number}"))
            continue
        for log_record, scope in log_records:
            record = _record(log_record, scope, f"{path}:{number}")
            if selection.takes_stream(record.stream_id):
                yield record


def _log_records(request: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Every record of mlaudit, with the name of its scope.

    Scope, attributes and original each identify it; one of them may have been changed.
    """
    for resource_logs in request.get("resourceLogs", ()):
        for scope_logs in resource_logs.get("scopeLogs", ()):
            scope = scope_logs.get("scope", {}).get("name", "")
            for log_record in scope_logs.get("logRecords", ()):
                signs = (scope == SCOPE, _claims_place(log_record), _has_place(log_record))
                if sum(signs) >= 2:
                    yield log_record, scope


def _claims_place(log_record: dict[str, Any]) -> bool:
    """Whether event name or attributes claim that this is a record of mlaudit."""
    return _text(log_record.get("eventName")).startswith(_KINDS) or _STREAM in _attributes(
        log_record.get("attributes")
    )


def _has_place(log_record: dict[str, Any]) -> bool:
    """Whether the original is a record of mlaudit, whatever its envelope says."""
    return f'"{_STREAM}":' in _body(log_record)


def _body(log_record: dict[str, Any]) -> str:
    body = log_record.get("body")
    return _text(body.get("stringValue")) if isinstance(body, dict) else ""


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _record(log_record: dict[str, Any], scope: str, where: str) -> StoredRecord:
    original = _body(log_record).encode("utf-8", "surrogatepass")
    attributes = _attributes(log_record.get("attributes"))
    record_id, stated_hash, stream_id, sequence = attribute_claims(attributes)
    claims = Claims(record_id, stated_hash or ABSENT, sequence or -1, ((stream_id, sequence),), where)
    fields = parse_original(original)
    if fields is None:
        return observe(original, None, claims)
    outside = Outside(
        attributes,
        _text(log_record.get("eventName")),
        _nanoseconds(log_record.get("timeUnixNano")),
        str(log_record.get("traceId") or ""),
        str(log_record.get("spanId") or ""),
        scope,
    )
    return observe(original, fields, claims, compare_outside(outside, fields))


def _nanoseconds(value: Any) -> int:
    number = 0 if value is None else _integer(value)
    return number if type(number) is int else -1


def _attributes(pairs: Any) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {}
    for pair in pairs if isinstance(pairs, list) else [pairs] if pairs else ():
        key = pair.get("key", "") if isinstance(pair, dict) else None
        value = pair.get("value") or {} if isinstance(pair, dict) else None
        if type(key) is not str or not isinstance(value, dict):
            attributes[_MALFORMED] = orjson.dumps(pair).decode()
        elif "stringValue" in value:
            attributes[key] = value["stringValue"]
        elif "intValue" in value:
            attributes[key] = _integer(value["intValue"])
        elif value:
            attributes[key] = orjson.dumps(value).decode()
    return attributes


def _integer(value: Any) -> str | int:
    """OTLP JSON writes 64-bit integers as text."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return str(value)
