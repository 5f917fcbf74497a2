"""Checks values against the fields of the catalog."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlaudit.catalog.model import Field

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def fault_of(field: Field, value: Any) -> str:
    """Why the value does not fit the field, as a phrase after the value's name; empty when it fits."""
    if field.type == "any":
        return "" if value is not None else "must not be null"
    if field.list:
        if not isinstance(value, list):
            return f"must be a list of {field.type}, not {_shown(value)}"
        return next((fault for one in value if (fault := _single(field, one))), "")
    return _single(field, value)


def _single(field: Field, value: Any) -> str:
    expected = field.type
    match expected:
        case "long":
            fits = isinstance(value, int) and not isinstance(value, bool)
        case "double":
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            fits = isinstance(value, bool)
        case "flattened":
            fits = isinstance(value, dict) and all(isinstance(key, str) for key in value)
        case "ip":
            fits = isinstance(value, str) and _is_address(value)
        case "date_nanos":
            fits = isinstance(value, str) and _TIME.fullmatch(value) is not None
        case _:
            fits = isinstance(value, str)
    return "" if fits else f"must be {expected}, not {_shown(value)}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
