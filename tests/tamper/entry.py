"""One stored record in the form of its store, and the edits of a tamperer."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.verify.proof.stored import document_id

COLLECTORS = ("event.original", "event.hash", "event.ingested", "event.sequence", "data_stream.", "mlaudit.")
NUMBER = "audit.sequence.number"
STREAM = "audit.sequence.stream_id"


@dataclass(eq=False)
class Entry:
    """A stored record. ``place`` is its index, (line, position) or segment; ``raw`` is the store's own form."""

    stream: str
    sequence: int
    place: Any
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def original(self) -> bytes:
        """The sealed bytes."""
        raise NotImplementedError

    @property
    def searchable(self) -> dict[str, Any]:
        """The searchable fields: the projection, or the attributes."""
        raise NotImplementedError

    def with_original(self, original: bytes, *, stated: bool, projected: bool) -> Entry:
        """With other bytes; ``stated`` updates hash and sequence, ``projected`` the searchable fields."""
        raise NotImplementedError

    def with_field(self, name: str, value: Any) -> Entry:
        """With another searchable value; None removes it."""
        raise NotImplementedError

    def with_hash(self, digest: str) -> Entry:
        """With another stored hash."""
        raise NotImplementedError

    def with_sequence(self, sequence: int) -> Entry:
        """With another stored sequence."""
        raise NotImplementedError

    def with_id(self, identity: str) -> Entry:
        """With another id."""
        raise NotImplementedError

    @property
    def fields(self) -> dict[str, Any]:
        """Of the original."""
        fields: dict[str, Any] = orjson.loads(self.original)
        return fields

    @property
    def record_id(self) -> str:
        """Of the original."""
        return str(self.fields["audit.record.id"])

    @property
    def hash(self) -> str:
        """Of the original, computed."""
        return sha256(self.original).hexdigest()

    def copy(self) -> Any:
        """A copy of its own."""
        return replace(self, raw=deepcopy(self.raw))


class Hit(Entry):
    """A document of Elasticsearch; ``raw`` is the search hit, ``place`` its index."""

    @property
    def original(self) -> bytes:
        return str(self.raw["_source"]["event.original"]).encode()

    @property
    def searchable(self) -> dict[str, Any]:
        source = self.raw["_source"]
        return {name: value for name, value in source.items() if not name.startswith(COLLECTORS)}

    def with_original(self, original: bytes, *, stated: bool, projected: bool) -> Hit:
        changed: Hit = self.copy()
        source = changed.raw["_source"]
        source["event.original"] = original.decode()
        digest = sha256(original).hexdigest()
        if stated:
            source["event.hash"] = digest
            source["event.sequence"] = orjson.loads(original)[NUMBER]
        if projected:
            for name in self.searchable:
                del source[name]
            fields = orjson.loads(original)
            source |= {
                name: doubled(value) for name, value in fields.items() if "." in name or name[0] != "_"
            }
            changed.raw["_id"] = document_id(fields["audit.record.id"], digest)
        return changed

    def with_field(self, name: str, value: Any) -> Hit:
        changed: Hit = self.copy()
        changed.raw["_source"].pop(name, None)
        if value is not None:
            changed.raw["_source"][name] = value
        return changed

    def with_hash(self, digest: str) -> Hit:
        return self.with_field("event.hash", digest)

    def with_sequence(self, sequence: int) -> Hit:
        return self.with_field("event.sequence", sequence)

    def with_id(self, identity: str) -> Hit:
        changed: Hit = self.copy()
        changed.raw["_id"] = identity
        return changed


class Line(Entry):
    """A LogRecord of an archive in OTLP JSON."""

    @property
    def original(self) -> bytes:
        return str(self.raw["body"]["stringValue"]).encode()

    @property
    def searchable(self) -> dict[str, Any]:
        named = {pair["key"]: _plain(pair["value"]) for pair in self.raw["attributes"]}
        outside = ("eventName", "timeUnixNano", "traceId", "spanId")
        return named | {name: self.raw[name] for name in outside if self.raw.get(name)}

    def with_original(self, original: bytes, *, stated: bool, projected: bool) -> Line:
        changed: Line = self.copy()
        changed.raw["body"]["stringValue"] = original.decode()
        if stated:
            changed = changed.with_hash(sha256(original).hexdigest())
        if projected:
            fields = orjson.loads(original)
            for name in self.searchable:
                if name.startswith("audit.") and name != "audit.integrity.value":
                    changed = changed.with_field(name, fields.get(name))
            changed.raw["eventName"] = fields.get("audit.kind", "")
        return changed

    def with_field(self, name: str, value: Any) -> Line:
        changed: Line = self.copy()
        if "." not in name:
            changed.raw[name] = value
            return changed
        pairs = [pair for pair in changed.raw["attributes"] if pair["key"] != name]
        if value is not None:
            typed = {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
            pairs.append({"key": name, "value": typed})
        changed.raw["attributes"] = pairs
        return changed

    def with_hash(self, digest: str) -> Line:
        return self.with_field("audit.integrity.value", digest)

    def with_sequence(self, sequence: int) -> Line:
        return self.with_field(NUMBER, sequence)

    def with_id(self, identity: str) -> Line:
        return self.with_field("audit.record.id", identity)


class FrameOf(Entry):
    """A frame of a spool segment; ``raw`` holds sequence, digest (hex), the payload, and whether its CRC is right."""

    @property
    def message(self) -> LogRecord:
        """The parsed payload."""
        return LogRecord.FromString(b64decode(self.raw["payload"]))

    @property
    def original(self) -> bytes:
        return self.message.body.string_value.encode()

    @property
    def searchable(self) -> dict[str, Any]:
        message = self.message
        named = {pair.key: pair.value.string_value or pair.value.int_value for pair in message.attributes}
        outside = {
            "eventName": message.event_name,
            "timeUnixNano": str(message.time_unix_nano),
            "traceId": message.trace_id.hex(),
            "spanId": message.span_id.hex(),
        }
        return named | {name: value for name, value in outside.items() if value}

    def with_message(self, message: LogRecord) -> FrameOf:
        """With another payload."""
        changed: FrameOf = self.copy()
        changed.raw["payload"] = b64encode(message.SerializeToString()).decode()
        return changed

    def with_original(self, original: bytes, *, stated: bool, projected: bool) -> FrameOf:
        message = self.message
        message.body.string_value = original.decode()
        changed = self.with_message(message)
        if stated:
            digest = sha256(original).hexdigest()
            changed = changed.with_hash(digest).with_field("audit.integrity.value", digest)
            changed.raw["sequence"] = orjson.loads(original)[NUMBER]
        if projected:
            fields = orjson.loads(original)
            for name in self.searchable:
                if name.startswith("audit.") and name != "audit.integrity.value":
                    changed = changed.with_field(name, fields.get(name))
            changed = changed.with_field("eventName", fields.get("audit.kind", ""))
        return changed

    def with_field(self, name: str, value: Any) -> FrameOf:
        message = self.message
        if name == "eventName":
            message.event_name = value
        elif name == "timeUnixNano":
            message.time_unix_nano = int(value)
        elif name in ("traceId", "spanId"):
            setattr(message, "trace_id" if name == "traceId" else "span_id", bytes.fromhex(value))
        else:
            kept = [pair for pair in message.attributes if pair.key != name]
            del message.attributes[:]
            message.attributes.extend(kept)
            if value is not None:
                pair = message.attributes.add(key=name)
                if isinstance(value, int):
                    pair.value.int_value = value
                else:
                    pair.value.string_value = value
        return self.with_message(message)

    def with_hash(self, digest: str) -> FrameOf:
        changed: FrameOf = self.copy()
        changed.raw["digest"] = digest
        return changed

    def with_sequence(self, sequence: int) -> FrameOf:
        changed: FrameOf = self.copy()
        changed.raw["sequence"] = sequence
        return changed

    def with_id(self, identity: str) -> FrameOf:
        return self.with_field("audit.record.id", identity)


def doubled(value: Any) -> Any:
    """A value as the collector sends it to Elasticsearch: every number a double."""
    return json.loads(json.dumps(value), parse_int=float)


def _plain(value: dict[str, Any]) -> Any:
    return int(value["intValue"]) if "intValue" in value else value.get("stringValue")
