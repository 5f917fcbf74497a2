"""The OTLP wire format of a record, encoded once when the record is sealed and sent as stored.

The protobuf runtime's message objects cost several times as much as the rest of the pipeline, so the few fields of a
LogRecord are encoded here directly. Field numbers: opentelemetry-proto 1.x, ``logs/v1/logs.proto`` and
``common/v1/common.proto``; the tests parse every output with the official classes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FIXED64: Final = struct.Struct("<Q")

# Keys (field number << 3 | wire type) of LogRecord.
_TIME: Final = b"\x09"
_SEVERITY_NUMBER: Final = b"\x10"
_BODY: Final = b"\x2a"
_ATTRIBUTES: Final = b"\x32"
_FLAGS: Final = b"\x45"
_TRACE_ID: Final = b"\x4a\x10"
_SPAN_ID: Final = b"\x52\x08"
_OBSERVED: Final = b"\x59"
_EVENT_NAME: Final = b"\x62"
# KeyValue and AnyValue.
_KEY: Final = b"\x0a"
_VALUE: Final = b"\x12"
_STRING: Final = b"\x0a"
_INTEGER: Final = b"\x18"


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(key: bytes, value: bytes) -> bytes:
    return key + _varint(len(value)) + value


def _key_value(name: str, value: str | int) -> bytes:
    if isinstance(value, int):
        any_value = _INTEGER + _varint(value & 0xFFFFFFFFFFFFFFFF)
    else:
        any_value = _field(_STRING, value.encode())
    return _field(_KEY, name.encode()) + _field(_VALUE, any_value)


@lru_cache(maxsize=4096)
def text_prefix(name: str, size: int) -> bytes:
    """An attribute without its text, whose UTF-8 has ``size`` bytes."""
    value_size = len(_STRING) + len(_varint(size)) + size
    value_head = _VALUE + _varint(value_size) + _STRING + _varint(size)
    pair_head = _field(_KEY, name.encode()) + value_head
    return _ATTRIBUTES + _varint(len(pair_head) + size) + pair_head


@lru_cache(maxsize=1024)
def _integer_prefix(name: str, size: int) -> bytes:
    """An attribute without its integer, whose varint has ``size`` bytes."""
    pair_head = _field(_KEY, name.encode()) + _VALUE + _varint(len(_INTEGER) + size) + _INTEGER
    return _ATTRIBUTES + _varint(len(pair_head) + size) + pair_head


def attribute(name: str, value: str | int) -> bytes:
    """One attribute of a LogRecord."""
    if isinstance(value, int):
        number = _varint(value & 0xFFFFFFFFFFFFFFFF)
        return _integer_prefix(name, len(number)) + number
    raw = value.encode()
    return text_prefix(name, len(raw)) + raw


@lru_cache(maxsize=1024)
def _event_name(name: str) -> bytes:
    return _field(_EVENT_NAME, name.encode())


def log_record(
    *,
    time: int,
    severity: int,
    event_name: str,
    body: bytes,
    attributes: bytes,
    trace_id: int = 0,
    span_id: int = 0,
) -> bytes:
    """A serialised LogRecord.

    Args:
        time: nanoseconds since the epoch; also the observed time.
        severity: OTel severity number, 1 to 24.
        event_name: the event's kind.
        body: UTF-8 text, sent unchanged as the string body.
        attributes: concatenated results of ``attribute``.
        trace_id: of the current span, 0 for none.
        span_id: likewise.
    """
    stamp = _FIXED64.pack(time)
    body_head = _STRING + _varint(len(body))
    parts = [
        _TIME,
        stamp,
        _SEVERITY_NUMBER,
        _varint(severity),
        _BODY,
        _varint(len(body_head) + len(body)),
        body_head,
        body,
        attributes,
    ]
    if trace_id:
        parts += (_TRACE_ID, trace_id.to_bytes(16, "big"), _SPAN_ID, span_id.to_bytes(8, "big"))
    parts += (_OBSERVED, stamp, _event_name(event_name))
    return b"".join(parts)


class Envelope:
    """The envelope of the records of a request: one resource, one scope."""

    __slots__ = ("_resource", "_scope")

    def __init__(self, resource: Mapping[str, str | int], scope: str, version: str) -> None:
        attributes = b"".join(_field(b"\x0a", _key_value(name, value)) for name, value in resource.items())
        self._resource = _field(b"\x0a", attributes)
        self._scope = _field(b"\x0a", _field(b"\x0a", scope.encode()) + _field(b"\x12", version.encode()))

    def request(self, records: Iterable[bytes]) -> bytes:
        """A serialised ExportLogsServiceRequest of serialised LogRecords."""
        parts = [self._scope]
        for record in records:
            parts += (b"\x12", _varint(len(record)), record)
        head = self._resource + b"\x12" + _varint(sum(map(len, parts)))
        size = len(head) + sum(map(len, parts))
        # Joined once: a request is about a megabyte.
        return b"".join((b"\x0a", _varint(size), head, *parts))
