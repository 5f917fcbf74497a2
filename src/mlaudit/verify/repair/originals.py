"""Sealed originals as they lie on this host or in an archive, whole, so that they can be sent again byte for byte."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.frames import Frame, read_pieces
from mlaudit.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SPOOL: Final = "spool"
RETAINED: Final = "retained"
QUARANTINE: Final = "quarantine"
ARCHIVE: Final = "archive"
_LINE_BYTES: Final = 256 << 20
_STREAM: Final = "audit.sequence.stream_id"
_NUMBER: Final = "audit.sequence.number"


@dataclass(frozen=True, slots=True)
class Original:
    """One record ready to be sent.

    Attributes:
        stream_id, sequence: its place, by its own body.
        hash: SHA-256 of the body; ``previous_hash`` is what the body names.
        record_class: of its data stream, e.g. ``prediction``.
        payload: the serialised LogRecord.
        resource: attributes of the process that wrote it, as far as the record says.
        place: one of ``SPOOL``, ``RETAINED``, ``QUARANTINE``, ``ARCHIVE``.
        where: the file.
        fault: why it must not be sent; empty when it may.
    """

    stream_id: str
    sequence: int
    hash: str
    previous_hash: str
    record_class: str
    payload: bytes
    resource: tuple[tuple[str, str | int], ...]
    place: str
    where: str
    fault: str = ""


def read_spool(spool: Path, wanted: Callable[[str, int], bool]) -> Iterator[Original]:
    """What waits in the spool, was set aside there, and was delivered and is still kept; by stream and sequence."""
    for folder in layout.streams(spool):
        ack = files.read_ack(folder)
        acknowledged = ack.sequence if ack else 0
        for frame, where in _frames(folder, wanted):
            place = RETAINED if frame.sequence <= acknowledged else SPOOL
            yield _from_payload(frame.payload, folder.name, frame.sequence, frame.digest.hex(), place, where)
    for folder in layout.retained_streams(spool):
        for frame, where in _frames(folder, wanted):
            yield _from_payload(
                frame.payload, folder.name, frame.sequence, frame.digest.hex(), RETAINED, where
            )
    for folder in layout.quarantined_streams(spool):
        for path in sorted(layout.quarantine_folder(folder).glob("*.otlp")):
            if path.stem.isdigit() and wanted(folder.name, int(path.stem)):
                try:
                    payload = path.read_bytes()
                except OSError:
                    continue  # taken away meanwhile
                yield _from_payload(payload, folder.name, int(path.stem), "", QUARANTINE, str(path))


def read_archive(paths: list[Path], wanted: Callable[[str, int], bool]) -> Iterator[Original]:
    """The records of archive files, in the order of the files; lines that cannot be read are passed over.

    Raises:
        SourceError: a file cannot be read.
    """
    for path in paths:
        try:
            with path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                file = gzip.GzipFile(fileobj=raw) if packed else raw
                while line := file.readline(_LINE_BYTES):
                    yield from _from_line(line, str(path), wanted)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            continue  # what was readable was read; verify names the damage
        except OSError as error:
            raise SourceError(f"{path}: expected a readable file, found {error.strerror or error}") from None


def _frames(folder: Path, wanted: Callable[[str, int], bool]) -> Iterator[tuple[Frame, str]]:
    for path in layout.segments(folder):
        try:
            data = path.read_bytes()
        except OSError:
            continue  # delivered and gone meanwhile
        for piece in read_pieces(data, layout.first_sequence(path) - 1):
            if isinstance(piece, Frame) and wanted(folder.name, piece.sequence):
                yield piece, str(path)


def _from_payload(
    payload: bytes, stream_id: str, sequence: int, digest: str, place: str, where: str
) -> Original:
    try:
        message = LogRecord.FromString(payload)
    except DecodeError:
        fault = "it is no LogRecord"
        return Original(stream_id, sequence, "", "", "", payload, (), place, where, fault)
    attributes = {pair.key: pair.value for pair in message.attributes}
    stated = attributes.get("audit.integrity.value")
    digests = {digest} if digest else set()
    if stated is not None:
        digests.add(stated.string_value)
    return _examined(
        payload, message.body.string_value.encode(), stream_id, sequence, digests, place, where, ()
    )


def _examined(
    payload: bytes,
    body: bytes,
    stream_id: str,
    sequence: int,
    digests: set[str],
    place: str,
    where: str,
    resource: tuple[tuple[str, str | int], ...],
) -> Original:
    actual = sha256(body).hexdigest()
    try:
        fields = orjson.loads(body)
        own = (fields[_STREAM], fields[_NUMBER])
        previous = str(fields["audit.sequence.previous_hash"])
    except (ValueError, KeyError, TypeError):
        fields, own, previous = {}, None, ""
    fault = ""
    if own is None:
        fault = "its body is no sealed original"
    elif own != (stream_id, sequence):
        fault = f"its body says record {own[1]} of stream {own[0]}"
    elif digests != {actual}:
        fault = f"its hash is {actual}, and {' or '.join(sorted(digests)) or 'none'} was noted beside it"
    record_class = str(fields.get("event.dataset", "")).removeprefix("mlaudit.")
    return Original(
        stream_id,
        sequence,
        actual,
        previous,
        record_class,
        payload,
        resource or _resource(fields),
        place,
        where,
        fault,
    )


def _resource(fields: dict[str, Any]) -> tuple[tuple[str, str | int], ...]:
    names = {
        "service.name": "service.name",
        "service.version": "service.version",
        "service.instance.id": "service.instance.id",
        "service.environment": "deployment.environment.name",
        "host.name": "host.name",
        "process.pid": "process.pid",
    }
    return tuple(
        (name, value)
        for field, name in names.items()
        if isinstance(value := fields.get(field), str | int) and not isinstance(value, bool)
    )


def _from_line(line: bytes, where: str, wanted: Callable[[str, int], bool]) -> Iterator[Original]:
    try:
        request = orjson.loads(line)
        found = [
            record
            for resource_logs in request.get("resourceLogs", ())
            for scope_logs in resource_logs.get("scopeLogs", ())
            for record in scope_logs.get("logRecords", ())
        ]
    except (ValueError, AttributeError, TypeError):
        return
    for record in found:
        values = _values(record)
        stream_id, sequence = values.get(_STREAM, ""), values.get(_NUMBER, "0")
        if not stream_id or not sequence.isdigit() or not wanted(stream_id, int(sequence)):
            continue
        body = (record.get("body") or {}).get("stringValue")
        digests = {values.get("audit.integrity.value", "")}
        raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else b""
        payload = _payload(record)
        original = _examined(payload, raw, stream_id, int(sequence), digests, ARCHIVE, where, ())
        yield original


def _values(record: dict[str, Any]) -> dict[str, str]:
    try:
        pairs = [(pair["key"], pair.get("value") or {}) for pair in record.get("attributes") or ()]
        return {key: str(value.get("stringValue", value.get("intValue", ""))) for key, value in pairs}
    except (AttributeError, KeyError, TypeError):
        return {}


def _payload(record: dict[str, Any]) -> bytes:
    """The LogRecord of its OTLP JSON, in which ids are hex where protobuf's own JSON wants base64."""
    plain = dict(record)
    for name in ("traceId", "spanId"):
        try:
            plain[name] = b64encode(bytes.fromhex(str(plain.get(name) or ""))).decode()
        except ValueError:
            plain.pop(name, None)
    try:
        return bytes(ParseDict(plain, LogRecord(), ignore_unknown_fields=True).SerializeToString())
    except ParseError:
        return b""
