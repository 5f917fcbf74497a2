"""Compares the searchable fields of a document with its sealed original."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.catalog.names import COLLECTOR_FIELDS, FIELD_TYPES, KINDS, ORIGINAL_ONLY_FIELDS
from mlaudit.verify.proof.stored import Difference

if TYPE_CHECKING:
    from collections.abc import Mapping

SCOPE: Final = "mlaudit"
# Names that the collector takes out of a body: its own, and those for which Elasticsearch refuses a document.
_REMOVED: Final = re.compile(
    r"^(event|mlaudit|data_stream)$|^(mlaudit|data_stream)[.]|^_|^\s*$|^[.]|[.]$|[.]\s*[.]"
)
# And objects whose contents Elasticsearch would read as a duplicate field.
_OBJECTS: Final = frozenset(
    name[:place] for name in FIELD_TYPES for place, sign in enumerate(name) if sign == "."
) - frozenset(FIELD_TYPES)
_COLLECTOR_PREFIXES: Final = ("mlaudit.", "data_stream.")
UNSEALED: Final = "mlaudit.unsealed"
_RETIMED: Final = "mlaudit.retimed"
_TIMESTAMP: Final = "@timestamp"
_TIME: Final = re.compile(
    r"(19[7-9]\d|2[01]\d\d|22[0-5]\d)-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}[.]\d{1,9}Z", re.ASCII
)
# Attributes that repeat the original's place and hash; they are checked as the store's claims.
_CLAIMS: Final = frozenset({"audit.record.id", "audit.integrity.value", "audit.sequence.number"})
_REPEATED: Final = (
    "audit.record.id",
    "audit.actor.id",
    "audit.actor.type",
    "audit.action",
    "audit.outcome",
    "audit.schema.version",
    "audit.sequence.previous_hash",
    "audit.sequence.stream_id",
    "audit.target.id",
    "audit.target.type",
)
# The class of a record selects its data stream; any other value goes to the default one.
CLASSES: Final = frozenset(kind.stream for kind in KINDS.values())
_OTHERS: Final = "system"
_BACKING: Final = re.compile(
    r"logs-mlaudit[.](?P<class>[^-]+)-(?P<namespace>.+)-\d{4}[.]\d{2}[.]\d{2}-\d{6}$"
)
_SHOWN: Final = 1000
ABSENT: Final = "(absent)"


@lru_cache(maxsize=256)
def data_stream(index: str) -> tuple[str, str]:
    """Class and namespace of the data stream to which an index belongs, also a mounted or shrunken one; else empty."""
    named = _BACKING.search(index)
    return (named["class"], named["namespace"]) if named else ("", "")


def class_of(fields: Mapping[str, Any]) -> str:
    """The class of data stream into which the collector puts a record."""
    return _class_of(str(fields.get("event.dataset", "")))


@lru_cache(maxsize=256)
def _class_of(dataset: str) -> str:
    module, _, class_ = dataset.partition(".")
    return class_ if module == "mlaudit" and class_ in CLASSES else _OTHERS


def misplaced(class_: str, namespace: str, fields: Mapping[str, Any]) -> Difference | None:
    """The expected and the actual data stream of a record, where they differ."""
    own = class_of(fields)
    if not class_ or class_ == own:
        return None
    return Difference("data stream", f"logs-mlaudit.{own}-{namespace}", f"logs-mlaudit.{class_}-{namespace}")


def _is_left_out(name: str) -> bool:
    """Whether the collector leaves a field of the original out of the document."""
    return (
        name in COLLECTOR_FIELDS
        or name in ORIGINAL_ONLY_FIELDS
        or name in _OBJECTS
        or _REMOVED.search(name) is not None
    )


def compare_document(
    document: Mapping[str, Any], fields: Mapping[str, Any], class_: str = "", namespace: str = ""
) -> list[Difference]:
    """The searchable fields of an Elasticsearch document that differ from its original.

    Numbers are compared as numbers, since the collector turns all of them into doubles; arrays in order. Missing and
    extra fields count. Fields that the collector adds, and contents that are kept in the original alone, do not;
    but ``data_stream.*`` must name the data stream in which the document lies (``class_`` and ``namespace``, where they
    are known), or its record's class.
    """
    differences: list[Difference] = []
    for name, value in fields.items():
        if name in document:
            found = document[name]
            if type(value) is str and type(found) is str and found == value:
                continue
            if name in COLLECTOR_FIELDS or same(value, found):
                continue
            if name == _TIMESTAMP and _is_retimed(document, value):
                continue
            differences.append(Difference(name, shown(value), shown(found)))
        elif not _is_left_out(name):
            differences.append(Difference(name, shown(value), ABSENT))
    differences += [
        Difference(name, ABSENT, shown(found))
        for name, found in document.items()
        if name not in fields
        and name not in COLLECTOR_FIELDS
        and not name.startswith(_COLLECTOR_PREFIXES)
        and not (name == _TIMESTAMP and _is_retimed(document, None))
    ]
    if UNSEALED in document:
        # A sealed record never has it: the mark would exclude the record from checks.
        differences.append(Difference(UNSEALED, ABSENT, shown(document[UNSEALED])))
    if class_:
        own = class_of(fields)
        if document.get("data_stream.dataset") not in (f"mlaudit.{own}", f"mlaudit.{class_}"):
            differences.append(_collectors(document, "data_stream.dataset", f"mlaudit.{own}"))
        if document.get("data_stream.namespace") != namespace:
            differences.append(_collectors(document, "data_stream.namespace", namespace))
        if document.get("data_stream.type") != "logs":
            differences.append(_collectors(document, "data_stream.type", "logs"))
    return differences


def _collectors(document: Mapping[str, Any], name: str, expected: str) -> Difference:
    return Difference(name, expected, shown(document.get(name, ABSENT)))


class Outside(NamedTuple):
    """The envelope of an original in a LogRecord, which repeats parts of it; empty or 0 where it is absent."""

    attributes: Mapping[str, str | int]
    event_name: str
    time: int = 0
    trace_id: str = ""
    span_id: str = ""
    scope: str = SCOPE


def compare_outside(outside: Outside, fields: Mapping[str, Any]) -> list[Difference]:
    """Values of a LogRecord's envelope that differ from its body.

    An empty attribute and an absent field are the same; an attribute that mlaudit always writes must be there where the
    body has the field.
    """
    get = fields.get
    differences: list[Difference] = []
    for name, found in outside.attributes.items():
        expected = get(name, "")
        if found != expected and name not in _CLAIMS and name.startswith("audit."):
            differences.append(Difference(name, shown(expected), shown(found)))
    differences += [
        Difference(name, shown(fields[name]), ABSENT)
        for name in _REPEATED
        if name in fields and name not in outside.attributes
    ]
    for name, expected, found in (
        ("EventName", get("audit.kind", ""), outside.event_name),
        ("InstrumentationScope", SCOPE, outside.scope),
        ("TraceId", get("trace.id", ""), outside.trace_id),
        ("SpanId", get("span.id", ""), outside.span_id),
    ):
        if found != expected and (found or name == "EventName"):
            differences.append(Difference(name, shown(expected), shown(found)))
    if outside.time and (moment := _nanoseconds(get(_TIMESTAMP))) and moment != outside.time:
        differences.append(Difference("Timestamp", str(moment), str(outside.time)))
    return differences


def _nanoseconds(text: Any) -> int:
    """Nanoseconds since the epoch of a time as records carry it; 0 for anything else."""
    if type(text) is not str or not _TIME.fullmatch(text):
        return 0
    try:
        seconds = _seconds(text[:19])
    except ValueError:
        return 0
    return seconds * 1_000_000_000 + int(text[20:-1].ljust(9, "0"))


@lru_cache(maxsize=256)
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def same(expected: Any, found: Any) -> bool:
    """Whether two JSON values are equal, however deep; 2 and 2.0 are, true and 1 are not."""
    pending = [(expected, found)]
    while pending:
        one, other = pending.pop()
        if isinstance(one, bool) or isinstance(other, bool):
            equal = one is other
        elif isinstance(one, int | float) and isinstance(other, int | float):
            equal = one == other
        elif isinstance(one, list) and isinstance(other, list):
            equal = len(one) == len(other)
            pending += zip(one, other, strict=False)
        elif isinstance(one, dict) and isinstance(other, dict):
            equal = one.keys() == other.keys()
            pending += [(value, other[name]) for name, value in one.items()] if equal else ()
        else:
            equal = type(one) is type(other) and one == other
        if not equal:
            return False
    return True


def shown(value: Any) -> str:
    """A value as text for a finding, truncated."""
    try:
        text = value if type(value) is str else json.dumps(value, ensure_ascii=False)
    except RecursionError:  # a foreign record, which Elasticsearch keeps as it is
        return "(nested too deeply to show)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def _is_retimed(document: Mapping[str, Any], value: Any) -> bool:
    """Whether the collector had to replace a time that no data stream accepts."""
    return document.get(_RETIMED) is True and not (isinstance(value, str) and _TIME.fullmatch(value))
