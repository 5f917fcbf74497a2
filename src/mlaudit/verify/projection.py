"""Whether what is searchable says the same as the sealed original."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from mlaudit._fields import COLLECTOR_FIELDS, ORIGINAL_ONLY_FIELDS
from mlaudit.seal.stored import Difference

if TYPE_CHECKING:
    from collections.abc import Mapping

# Names that the collector takes out of a body: its own, and those for which Elasticsearch refuses a document.
_REMOVED: Final = re.compile(
    r"^(event|mlaudit|data_stream)$|^(mlaudit|data_stream)[.]|^_|^\s*$|^[.]|[.]$|[.]\s*[.]"
)
_COLLECTOR_PREFIXES: Final = ("mlaudit.", "data_stream.")
_RETIMED: Final = "mlaudit.retimed"
_TIMESTAMP: Final = "@timestamp"
_TIME: Final = re.compile(
    r"(19[7-9]\d|2[01]\d\d|22[0-5]\d)-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}[.]\d{1,9}Z", re.ASCII
)
# Attributes that repeat the original's place and hash; they are judged as the store's claims.
_CLAIMS: Final = frozenset({"audit.record.id", "audit.integrity.value", "audit.sequence.number"})
_SHOWN: Final = 1000
ABSENT: Final = "(absent)"


def compare_document(document: Mapping[str, Any], fields: Mapping[str, Any]) -> list[Difference]:
    """The searchable fields of an Elasticsearch document that differ from its original.

    Numbers are compared as numbers, since the collector turns all of them into doubles; arrays in order. Missing and
    extra fields count. Fields that the collector adds, and contents that are kept in the original alone, do not.
    """
    differences: list[Difference] = []
    for name, value in fields.items():
        if name in document:
            found = document[name]
            if found == value and type(found) is type(value) and type(value) is str:
                continue
            if name in COLLECTOR_FIELDS or same(value, found):
                continue
            if name == _TIMESTAMP and _is_retimed(document, value):
                continue
            differences.append(Difference(name, shown(value), shown(found)))
        elif name not in COLLECTOR_FIELDS and name not in ORIGINAL_ONLY_FIELDS and not _REMOVED.search(name):
            differences.append(Difference(name, shown(value), ABSENT))
    differences += [
        Difference(name, ABSENT, shown(found))
        for name, found in document.items()
        if name not in fields
        and name not in COLLECTOR_FIELDS
        and not name.startswith(_COLLECTOR_PREFIXES)
        and not (name == _TIMESTAMP and _is_retimed(document, None))
    ]
    return differences


def compare_attributes(
    attributes: Mapping[str, str | int], event_name: str, fields: Mapping[str, Any]
) -> list[Difference]:
    """The audit attributes of a LogRecord, and its event name, that differ from the body.

    An empty attribute and an absent field are the same.
    """
    get = fields.get
    differences: list[Difference] = []
    for name, found in attributes.items():
        expected = get(name, "")
        if found != expected and name not in _CLAIMS and name.startswith("audit."):
            differences.append(Difference(name, shown(expected), shown(found)))
    if event_name != fields.get("audit.kind", ""):
        differences.append(Difference("EventName", shown(fields.get("audit.kind", "")), shown(event_name)))
    return differences


def same(expected: Any, found: Any) -> bool:
    """Whether two JSON values are equal; 2 and 2.0 are, true and 1 are not."""
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return expected == found
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(same, expected, found))
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(
            same(value, found[name]) for name, value in expected.items()
        )
    return type(expected) is type(found) and expected == found


def shown(value: Any) -> str:
    """A value as text for a finding, cut to a bearable length."""
    text = value if type(value) is str else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def _is_retimed(document: Mapping[str, Any], value: Any) -> bool:
    """Whether the collector had to replace a time that no data stream takes."""
    return document.get(_RETIMED) is True and not (isinstance(value, str) and _TIME.fullmatch(value))
