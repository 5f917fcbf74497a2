"""Encodes a flat dict of fields as the bytes that are hashed, stored, sent and kept.

The bytes are UTF-8 JSON: one object, keys sorted by code point, no nulls, no NaN. A record is encoded before its
place in the chain is known, so that no other thread waits for the encoder. The encoder returns the two halves around
the place fields, ``audit.sequence.*``, which sort next to each other, and the seal writes these fields in between.

Fields that many records share are encoded and sorted once for each set of names; see ``Common``.
"""

from __future__ import annotations

import secrets
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from mlaudit.errors import EventError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

PLACE_PREFIX: Final = "audit.sequence."
# JSON numbers beyond this lose digits in a reader that uses doubles, such as the collector's ParseJSON.
MAX_EXACT_INTEGER: Final = 1 << 53
# The collector accepts requests of up to 4 MiB; a record has to fit into one with room to spare.
MAX_RECORD_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 64
_MAX_LAYOUTS: Final = 256
_MAX_SHAPE: Final = 16 << 10  # characters of its names


# Placeholder of the place fields while a record is encoded. Random, so that no value can contain it.
_PLACE_KEY: Final = f"{PLACE_PREFIX}{secrets.token_hex(16)}"
_PLACE: Final = f'"{_PLACE_KEY}":0,'.encode()
_NOT_UNICODE: Final = "expected text that is valid Unicode, found {}; escape it first"
_PLAIN: Final = frozenset({str, bool, int, orjson.Fragment})


class EncodedRecord(NamedTuple):
    """A record's bytes without its place: the place fields belong between ``head`` and ``tail``."""

    head: bytes
    tail: bytes


class Common:
    """Fields that many records share; encodes records that add their own. Safe to use from any thread."""

    __slots__ = ("_fixed", "_layouts", "fields")

    def __init__(self, fields: Mapping[str, Any], fixed: Collection[str] = ()) -> None:
        """Takes the common fields; no record may override those named in ``fixed``.

        Raises:
            EventError: as ``encode``.
        """
        self._fixed = frozenset(fixed)
        self.fields = {name: _checked(name, value) for name, value in fields.items()}
        self._layouts: dict[tuple[str, ...], dict[str, Any]] = {}

    def encode(self, own: Mapping[str, Any]) -> EncodedRecord:
        """Encodes a record of the common fields and its own, which override them; see ``encode``.

        Raises:
            EventError: as ``encode``; also when a field of its own is fixed.
        """
        shape = tuple(own)
        layout = self._layouts.get(shape) or self._remember(shape)
        record = layout.copy()
        record.update(own)  # keeps the order of the names
        if not _PLAIN.issuperset(map(type, own.values())):
            for name, value in own.items():
                if type(value) not in _PLAIN:
                    record[name] = _faithful(name, value, 0)
        try:
            # orjson refuses integers of more than 53 bits, so no loop has to check them here.
            whole = orjson.dumps(record, option=orjson.OPT_STRICT_INTEGER)
        except (TypeError, ValueError, RecursionError):
            whole = _encode_with_care(record)
        if len(whole) > MAX_RECORD_BYTES:
            raise EventError(
                f"expected a record of at most {MAX_RECORD_BYTES} bytes, found {len(whole)}; "
                "record digests of large values"
            )
        head, found, tail = whole.partition(_PLACE)
        if not found:  # a record without fields after its place
            head, _, tail = whole.partition(_PLACE[:-1])
            return EncodedRecord(head, tail)
        return EncodedRecord(head, b"," + tail)

    def _remember(self, shape: tuple[str, ...]) -> dict[str, Any]:
        layout = self._layout(shape)
        if sum(map(len, shape)) <= _MAX_SHAPE:
            if (
                len(self._layouts) >= _MAX_LAYOUTS
            ):  # labels create new shapes without limit: clear instead of growing
                self._layouts.clear()
            self._layouts[shape] = layout
        return layout

    def _layout(self, shape: tuple[str, ...]) -> dict[str, Any]:
        """All names in order; adjacent common fields form one piece of JSON under the first one's name."""
        for name in shape:
            if name in self._fixed or name.startswith(PLACE_PREFIX):
                raise EventError(f"{name}: mlaudit writes this field itself; give yours another name")
        layout: dict[str, Any] = {}
        pieces: dict[str, Any] = {}
        for name in sorted({*self.fields, *shape, _PLACE_KEY}):
            if name in self.fields and name not in shape:
                pieces[name] = self.fields[name]
                continue
            _add_piece(layout, pieces)
            layout[name] = 0
            pieces = {}
        _add_piece(layout, pieces)
        return layout


def _add_piece(layout: dict[str, Any], neighbours: dict[str, Any]) -> None:
    if neighbours:
        first = next(iter(neighbours))
        text = orjson.dumps(neighbours)[1:-1]
        layout[first] = orjson.Fragment(text[len(orjson.dumps(first)) + 1 :])


def encode(fields: Mapping[str, Any]) -> EncodedRecord:
    """Encodes the fields of one record, sorted, in two halves.

    Args:
        fields: flat dotted names to str, bool, int (beyond 2^53 becomes a string of digits), finite float, or a
            list or str-keyed dict of those.

    Returns:
        The halves; ``head + place + tail`` is the JSON object.

    Raises:
        EventError: names the field whose value JSON cannot carry faithfully: None, NaN, bytes, a lone
            surrogate, a circular or too deep object, any other type; or a field of the place itself.
    """
    return Common({}).encode(fields)


def _encode_with_care(record: dict[str, Any]) -> bytes:
    for name, value in record.items():
        record[name] = _checked(name, value)
    try:
        return orjson.dumps(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError(_NOT_UNICODE.format(error)) from None


def _checked(name: str, value: Any) -> Any:
    return value if type(value) is orjson.Fragment else _faithful(name, value, 0)


def encoded_texts(texts: Iterable[str]) -> orjson.Fragment:
    """A list of texts as encoded JSON.

    Raises:
        EventError: one of them is not valid Unicode.
    """
    try:
        return orjson.Fragment(orjson.dumps(list(texts)))
    except TypeError as error:
        raise EventError(_NOT_UNICODE.format(error)) from None


def _faithful(name: str, value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str or kind is bool:
        return value
    if kind is int:
        return value if -MAX_EXACT_INTEGER <= value <= MAX_EXACT_INTEGER else str(value)
    if kind is float:
        if not isfinite(value):
            raise EventError(
                f"{name}: expected a finite number, found {value}; leave the field out or name the case"
            )
        return value
    if depth >= _MAX_DEPTH:
        raise EventError(f"{name}: expected at most {_MAX_DEPTH} levels, found more or a circular object")
    if kind is list or kind is tuple:
        return [_faithful(name, item, depth + 1) for item in value]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise EventError(f"{name}: expected text as key, found {type(key).__name__}")
        return {key: _faithful(name, item, depth + 1) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return _faithful(name, int(value), depth)
    raise EventError(
        f"{name}: expected text, number, boolean, list or dict, found {kind.__name__}; convert it in the capture"
    )
