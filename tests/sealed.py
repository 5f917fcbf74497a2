"""Sealed streams for the tests of seal and verify: made the same way every time, then stored and tampered with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlaudit.deliver.send import otlp
from mlaudit.deliver.spool import files, layout
from mlaudit.records.encode import encode
from mlaudit.rfc3339 import from_nanoseconds
from mlaudit.seal.chain import GENESIS, Chain
from mlaudit.seal.checkpoint import Checkpoint, Signer, sign_note
from mlaudit.seal.keys import FileSigner
from mlaudit.verify.proof.finding_codes import Finding
from mlaudit.verify.proof.proof import StreamProof
from mlaudit.verify.proof.stored import (
    Claims,
    StoredRecord,
    document_id,
    observe,
    parse_original,
    settle_contested,
)
from mlaudit.verify.proof.summary import Scope, StreamSummary

SIGNER = FileSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "test")
STRANGER = FileSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))), "stranger")
KEYS = {SIGNER.public_key.id: SIGNER.public_key}
STREAM_ID = "019ab8a0-0000-7000-8000-000000000001"
NEXT_ID = "019ab8a0-0000-7000-8000-000000000002"
BEGIN = 1_764_041_400_000_000_000  # 2025-11-25T03:30:00Z
SECOND = 1_000_000_000
NOW = datetime(2025, 11, 25, 4, 30, tzinfo=UTC)
WHOLE = Scope()


@dataclass(slots=True)
class Document:
    """One stored record that a test may alter: the original and everything that a store adds to it."""

    original: bytes
    id: str
    hash: str
    sequence: int
    source: dict[str, Any] = field(default_factory=dict)
    index: str = ".ds-logs-mlaudit.prediction-default-000001"

    @property
    def stored_id(self) -> str:
        """The document's id in Elasticsearch: derived from the content, unless ``id`` was changed."""
        own = parse_original(self.original) or {}
        matches = self.id == own.get("audit.record.id")
        return document_id(self.id, sha256(self.original).hexdigest()) if matches else self.id

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the original."""
        fields: dict[str, Any] = orjson.loads(self.original)
        return fields


def make_stream(
    count: int = 20,
    *,
    every: int = 5,
    end: str = "ended",
    stream_id: str = STREAM_ID,
    signer: Signer = SIGNER,
    begin: int = BEGIN,
    first: dict[str, Any] | None = None,
) -> list[Document]:
    """A valid stream of ``count`` records.

    Record 1 starts it, every ``every``-th record is a checkpoint of the one before, the last one is its signed
    end (``ended``, ``abandoned``, or none with ``open``), the others are predictions, one second apart.
    """
    chain = Chain(stream_id)
    documents = []
    for number in range(1, count + 1):
        kind, fields = "audit.ml.prediction", {"ml.prediction.rows": number, "ml.model.name": "fraud"}
        note: dict[str, Any] = {
            "audit.checkpoint.sequence": chain.sequence,
            "audit.checkpoint.hash": chain.head,
            "audit.checkpoint.key_id": signer.public_key.id,
        }
        moment = begin + number * SECOND
        if number == 1:
            kind, fields = (
                "audit.stream.started",
                {"audit.stream.key_id": signer.public_key.id, **(first or {})},
            )
        elif number == count and end != "open":
            kind, fields = f"audit.stream.{end}", note
        elif number % every == 0:
            kind, fields = "audit.stream.checkpoint", note
        if fields is note:
            checkpoint = Checkpoint(stream_id, chain.sequence, chain.head, from_nanoseconds(moment))
            note["audit.checkpoint.note"] = sign_note(checkpoint, signer)
        record_id = f"{stream_id[:-12]}{number:012x}"
        encoded = encode(
            {
                "@timestamp": from_nanoseconds(moment),
                "audit.actor.id": "hmac:2c1d:77",
                "audit.kind": kind,
                "audit.record.id": record_id,
                "event.category": ["api", "process"],
                "event.dataset": "mlaudit.prediction",
                "event.id": record_id,
                "event.outcome": "success",
                "host.name": "host-1",
                "message": f"Record {number} “naïve” \u2028 {'x' * 40}",
                "ml.training.parameters": {"depth": 3, "rate": 0.1},
                "process.pid": 4711,
                "service.name": "scoring",
                **fields,
            }
        )
        entry = chain.seal(encoded.head, encoded.tail)
        chain.advance(entry)
        documents.append(document(entry.body))
    return documents


def document(original: bytes) -> Document:
    """The original as the collector stores it, projection included; numbers become doubles there."""
    fields = orjson.loads(original)
    digest = sha256(original).hexdigest()
    sequence = fields["audit.sequence.number"]
    source = {name: _doubled(value) for name, value in fields.items()}
    source |= {
        "data_stream.type": "logs",
        "data_stream.dataset": fields["event.dataset"],
        "data_stream.namespace": "default",
        "event.ingested": "2025-11-25T04:00:00.000000000Z",
        "mlaudit.sender.address": "127.0.0.1",
    }
    return Document(original, fields["audit.record.id"], digest, sequence, source)


def _doubled(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | list | dict):
        return value
    if isinstance(value, int):
        return float(value)
    return (
        [_doubled(item) for item in value]
        if isinstance(value, list)
        else {k: _doubled(v) for k, v in value.items()}
    )


def copy_of(documents: Iterable[Document]) -> list[Document]:
    """A copy to tamper with."""
    return deepcopy(list(documents))


def rehash(documents: list[Document], start: int) -> None:
    """What an attacker without the key can do: recomputes the chain from index ``start`` on, without the notes."""
    previous = documents[start - 1].hash if start else GENESIS
    for index in range(start, len(documents)):
        body = re.sub(
            rb'"audit.sequence.previous_hash":"[^"]*"',
            b'"audit.sequence.previous_hash":"%b"' % previous.encode(),
            documents[index].original,
        )
        documents[index] = replace(document(body), id=documents[index].id)
        previous = documents[index].hash


def altered(original: bytes, name: str, value: Any) -> bytes:
    """The original with one field changed, in the same encoding."""
    fields = orjson.loads(original)
    fields[name] = value
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


# -- stores ------------------------------------------------------------------------------------------------


def hit(stored: Document) -> dict[str, Any]:
    """The document as a search in Elasticsearch returns it."""
    source = {
        **stored.source,
        "event.original": stored.original.decode(),
        "event.hash": stored.hash,
        "event.sequence": stored.sequence,
    }
    return {"_id": stored.stored_id, "_index": stored.index, "_source": source}


def records(documents: Iterable[Document]) -> list[StoredRecord]:
    """The input of a proof from documents in Elasticsearch, in order."""
    from mlaudit.verify.sources.cluster_source import read_hit

    found = [read_hit(hit(stored)) for stored in documents]
    settle_contested([r for r in found if r.contested], [r for r in found if not r.contested])
    return sorted(found, key=lambda record: (record.stream_id, record.sequence))


def bare_records(originals: Iterable[bytes]) -> list[StoredRecord]:
    """The input of a proof from a store that keeps originals only."""
    found = [observe(original, parse_original(original), Claims()) for original in originals]
    return sorted(found, key=lambda record: (record.stream_id, record.sequence))


def prove(
    found: Sequence[StoredRecord],
    keys: dict[str, Any] | None = KEYS,
    scope: Scope = WHOLE,
    known: Iterable[Checkpoint] = (),
) -> tuple[StreamSummary, list[Finding]]:
    """Feeds the records of one stream to a proof."""
    proof = StreamProof(found[0].stream_id, keys, scope, known)
    for record in found:
        proof.feed(record)
    return proof.finish()


def named(findings: Iterable[Finding]) -> list[tuple[str, int, int]]:
    """Code and place of each finding."""
    return [(found.code, found.sequence, found.through) for found in findings]


def log_record(stored: Document) -> dict[str, Any]:
    """The record in OTLP JSON, as the collector's file exporter writes it."""
    kind = str(stored.source.get("audit.kind", ""))
    attributes = {
        "audit.record.id": stored.id,
        "audit.actor.id": str(stored.source.get("audit.actor.id", "")),
        "audit.sequence.stream_id": str(stored.source.get("audit.sequence.stream_id", "")),
        "audit.sequence.previous_hash": str(stored.source.get("audit.sequence.previous_hash", "")),
        "audit.integrity.value": stored.hash,
    }
    pairs = [{"key": name, "value": {"stringValue": value}} for name, value in attributes.items()]
    pairs.append({"key": "audit.sequence.number", "value": {"intValue": str(stored.sequence)}})
    return {"eventName": kind, "body": {"stringValue": stored.original.decode()}, "attributes": pairs}


def archive_line(documents: Iterable[Document]) -> str:
    """One line of an archive, holding one batch."""
    scope_logs = {"scope": {"name": "mlaudit"}, "logRecords": [log_record(stored) for stored in documents]}
    return (
        json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": [scope_logs]}]}, ensure_ascii=False) + "\n"
    )


def write_archive(path: Path, documents: Sequence[Document], batch: int = 4) -> Path:
    """Writes an archive file."""
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(documents), batch):
            file.write(archive_line(documents[start : start + batch]))
    return path


def payload(stored: Document) -> bytes:
    """The record as a serialised LogRecord."""
    fields = stored.source
    attributes = {
        "audit.record.id": stored.id,
        "audit.actor.id": str(fields["audit.actor.id"]),
        "audit.sequence.stream_id": str(fields["audit.sequence.stream_id"]),
        "audit.sequence.number": stored.sequence,
        "audit.sequence.previous_hash": str(fields["audit.sequence.previous_hash"]),
        "audit.integrity.value": stored.hash,
    }
    moment = datetime.fromisoformat(str(fields["@timestamp"])[:19]).replace(tzinfo=UTC)
    return otlp.log_record(
        time=int(moment.timestamp()) * SECOND,
        severity=9,
        event_name=str(fields["audit.kind"]),
        body=stored.original,
        attributes=b"".join(otlp.attribute(name, value) for name, value in attributes.items()),
    )


def write_spool(spool: Path, documents: Sequence[Document], segment: int = 8) -> Path:
    """Writes the stream folder of a spool and returns it."""
    stream_id = str(documents[0].source["audit.sequence.stream_id"])
    folder = layout.stream_folder(spool, stream_id)
    folder.mkdir(parents=True)
    layout.lock_file(folder).touch()
    for start in range(0, len(documents), segment):
        part = documents[start : start + segment]
        layout.segment_file(folder, part[0].sequence).write_bytes(b"".join(frame(stored) for stored in part))
    return folder


def frame(stored: Document) -> bytes:
    """The record as a frame of a segment."""
    return files.frame(stored.sequence, bytes.fromhex(stored.hash), payload(stored))
