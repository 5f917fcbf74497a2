"""A small trail in files, made quickly by the product's own chain: for the regular tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from tests.tamper.writer import event

from mlaudit.deliver.spool import frames, layout
from mlaudit.event import new_record_id
from mlaudit.pipeline.stream import INTEGRITY, Stream
from mlaudit.records.build import RecordBuilder
from mlaudit.seal.chain import Chain
from mlaudit.seal.keys import FileSigner
from mlaudit.testing import AuditLog

SIGNER = FileSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "test")
STRANGER = FileSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))), "stranger")
KEYS = {SIGNER.public_key.id: SIGNER.public_key}
COUNT = 50
_SIGN_EVERY = 12
_BATCH = 9


def write_files(folder: Path) -> tuple[Path, Path]:
    """A spool and an archive of five streams: ended, abandoned, its adopter, a fork child of that, and an open one."""
    log = AuditLog()
    ended = _stream(log, {})
    ended.end("done")
    killed = _stream(log, _link(ended))
    adopter = _stream(log, _link(killed, 1))
    killed.abandon("its process is gone", {"audit.stream.adopted_by": adopter.id})
    child = _stream(log, {"audit.stream.parent.id": adopter.id})
    child.end("done")
    adopter.end("done")
    _stream(log, _link(adopter))
    records = [LogRecord.FromString(payload) for payload in log.payloads]
    return _spool(folder / "spool", log.payloads, records), _archive(folder / "archive.jsonl", records)


def _stream(log: AuditLog, links: dict[str, Any]) -> Stream:
    builder = RecordBuilder({"service.name": "scoring", "host.name": "host-1", "process.pid": 4711})
    stream = Stream(Chain(new_record_id()), log, builder, SIGNER)
    stream.begin(links)
    for number in range(1, COUNT + 1):
        made = event(number)
        stream.write(made, builder.build(made, INTEGRITY), durable=False)
        if number % _SIGN_EVERY == 0:
            stream.checkpoint()
    return stream


def _link(stream: Stream, sequence: int = 0) -> dict[str, Any]:
    """How the next start of a service names this stream, by its first record or its head."""
    log = stream.delivery
    assert isinstance(log, AuditLog)
    own = [record for record in log.records if record["audit.sequence.stream_id"] == stream.id]
    head = stream.head if not sequence else (1, own[1]["audit.sequence.previous_hash"])
    return {
        "audit.stream.previous.id": stream.id,
        "audit.stream.previous.sequence": head[0],
        "audit.stream.previous.hash": head[1],
    }


def _spool(spool: Path, payloads: list[bytes], records: list[LogRecord]) -> Path:
    by_stream: dict[str, list[bytes]] = {}
    for payload, record in zip(payloads, records, strict=True):
        said = _attributes(record)
        digest = bytes.fromhex(said["audit.integrity.value"])
        frame = frames.frame(said["audit.sequence.number"], digest, payload)
        by_stream.setdefault(said["audit.sequence.stream_id"], []).append(frame)
    for stream, found in by_stream.items():
        folder = layout.stream_folder(spool, stream)
        folder.mkdir(parents=True)
        half = len(found) // 2
        layout.segment_file(folder, 1).write_bytes(b"".join(found[:half]))
        layout.segment_file(folder, half + 1).write_bytes(b"".join(found[half:]))
    return spool


def _archive(path: Path, records: list[LogRecord]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(records), _BATCH):
            batch = [_json(record) for record in records[start : start + _BATCH]]
            scope = {"scope": {"name": "mlaudit"}, "logRecords": batch}
            request = {"resourceLogs": [{"resource": {}, "scopeLogs": [scope]}]}
            file.write(json.dumps(request, ensure_ascii=False) + "\n")
    return path


def _json(record: LogRecord) -> dict[str, Any]:
    """As the collector's file exporter writes it."""
    pairs = [
        {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for name, value in _attributes(record).items()
    ]
    return {
        "timeUnixNano": str(record.time_unix_nano),
        "body": {"stringValue": record.body.string_value},
        "attributes": pairs,
        "traceId": record.trace_id.hex(),
        "spanId": record.span_id.hex(),
        "eventName": record.event_name,
    }


def _attributes(record: LogRecord) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in record.attributes}
