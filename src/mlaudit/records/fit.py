"""Makes a record valid and small enough for JSON and the receiver: cuts long values, escapes invalid Unicode.

Works on fields that are already redacted: a secret that was cut in half would not be recognised.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from mlaudit.catalog.names import FIELD_TYPES
from mlaudit.records.encode import MAX_RECORD_BYTES

CUT: Final = "audit.truncated"
# Leaves room for the common fields, the place, and the list of cut fields.
_LIMIT: Final = MAX_RECORD_BYTES - (128 << 10)
_TEXT: Final = 1000
_INNER_TEXT: Final = 200
_INNER_ITEMS: Final = 100
_SMALL: Final = 2048
_NAMED: Final = 100
_DEPTH: Final = 64


def fit(fields: dict[str, Any]) -> bool:
    """Cuts the fields in place to the permitted size; ``audit.truncated`` names the cut or removed ones.

    Returns whether anything was changed; values of types that JSON does not support stay as they are.
    """
    touched: list[str] = []
    for name in list(fields):
        value, plain = fields[name], escaped(name)
        if plain != name:
            fields[plain] = fields.pop(name)
            touched.append(plain)
        if not _is_text(value):
            fields[plain] = _written_out(value, _DEPTH)
            touched.append(plain)
    sizes = {name: _size(name, value) for name, value in fields.items()}
    total = sum(sizes.values())
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= _LIMIT or sizes[name] < _SMALL:
            break
        fields[name] = _cut(fields[name])
        total += _size(name, fields[name]) - sizes[name]
        touched.append(name)
    for name in reversed(sizes):
        if total <= _LIMIT:
            break
        if name not in FIELD_TYPES:
            del fields[name]
            total -= sizes[name]
            touched.append(name)
    if not touched:
        return False
    names = sorted({name[:_INNER_TEXT] for name in touched})
    fields[CUT] = names[:_NAMED] + ([f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else [])
    return True


def escaped(text: str) -> str:
    """The text with lone surrogates escaped: they come from file names and bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _is_text(value: Any) -> bool:
    """Whether a value that JSON supports contains no lone surrogate."""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        return "surrogates" not in str(error)
    return True


def _written_out(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict) and depth:
        return {
            escaped(key) if isinstance(key, str) else key: _written_out(item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)) and depth:
        return [_written_out(item, depth - 1) for item in value]
    return value


def _size(name: str, value: Any) -> int:
    try:
        return len(orjson.dumps(name)) + len(orjson.dumps(value)) + 2
    except (TypeError, ValueError, RecursionError):
        return 0  # the encoder raises the error for it


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return f"{value[:_TEXT]}… ({len(value)} characters)"
    if isinstance(value, dict):
        kept = list(value.items())[:_INNER_ITEMS]
        return {str(key)[:_INNER_TEXT]: _cut_inside(item) for key, item in kept}
    if isinstance(value, (list, tuple)):
        return [_cut_inside(item) for item in value[:_INNER_ITEMS]]
    return "…"


def _cut_inside(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _INNER_TEXT else f"{value[:_INNER_TEXT]}… ({len(value)} characters)"
    return value if isinstance(value, (bool, int, float)) else "…"
