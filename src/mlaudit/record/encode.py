"""From a flat dict of fields to the bytes that are hashed, stored, sent and kept: the one encoding.

The bytes are UTF-8 JSON, one object, keys sorted by code point, no nulls, no NaN. A record is encoded before
its place in the chain is known, so that no other thread waits for the encoder: the encoder gives the two halves
around the place fields, ``audit.sequence.*``, which sort next to each other, and the seal writes them in between.
"""

from __future__ import annotations

import secrets
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from mlaudit.errors import EventError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PLACE_PREFIX: Final = "audit.sequence."
# JSON numbers beyond this lose digits in a reader that uses doubles, as the collector's ParseJSON does.
MAX_EXACT_INTEGER: Final = 1 << 53
# The collector takes requests of 4 MiB; a record has to fit into one with room to spare.
MAX_RECORD_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 64
_SORTED: Final = orjson.OPT_SORT_KEYS
# Refuses an integer of more than 53 bits, so that the encoder looks at them and no loop here has to.
_EXACT: Final = _SORTED | orjson.OPT_STRICT_INTEGER


# Stands where the place fields belong while a record is encoded. Random, so that no value can contain it.
_PLACE_KEY: Final = f"{PLACE_PREFIX}{secrets.token_hex(16)}"
_PLACE: Final = f'"{_PLACE_KEY}":0,'.encode()
_PLAIN: Final = frozenset({str, bool, int, orjson.Fragment})


class EncodedRecord(NamedTuple):
    """A record's bytes but for its place: ``head`` ends and ``tail`` begins where the place fields belong."""

    head: bytes
    tail: bytes


def encode(fields: Mapping[str, Any]) -> EncodedRecord:
    """Encodes the fields of one record, sorted, in two halves.

    Args:
        fields: flat dotted names to str, bool, int (beyond 2^53 becomes a string of digits), finite float, or a
            list or str-keyed dict of those.

    Returns:
        The halves; ``head + place + tail`` is the JSON object.

    Raises:
        EventError: names the field whose value JSON cannot carry faithfully: None, NaN, bytes, a lone
            surrogate, a circular or too deep object, any other type.
    """
    record: dict[str, Any] = {_PLACE_KEY: 0, **fields}
    for name, value in fields.items():
        if type(value) not in _PLAIN:
            record[name] = _faithful(name, value, 0)
    try:
        whole = orjson.dumps(record, option=_EXACT)
    except (TypeError, ValueError, RecursionError):
        whole = _encode_with_care(record)
    if len(whole) > MAX_RECORD_BYTES:
        raise EventError(
            f"expected a record of at most {MAX_RECORD_BYTES} bytes, found {len(whole)}; record digests of large values"
        )
    head, found, tail = whole.partition(_PLACE)
    if not found:  # a record with nothing behind its place
        head, _, tail = whole.partition(_PLACE[:-1])
        return EncodedRecord(head, tail)
    return EncodedRecord(head, b"," + tail)


def _encode_with_care(record: dict[str, Any]) -> bytes:
    for name, value in record.items():
        if type(value) is int:
            record[name] = _faithful(name, value, 0)
    try:
        return orjson.dumps(record, option=_SORTED)
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError(f"expected text that is valid Unicode, found {error}; escape it first") from None


def encoded_texts(texts: Iterable[str]) -> orjson.Fragment:
    """A list of texts that is encoded already, for what many records have in common."""
    return orjson.Fragment(orjson.dumps(list(texts)))


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
