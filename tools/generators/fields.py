"""Generates ``mlaudit/catalog/names.py``: the parts of the catalog that the hot path needs, as plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlaudit.catalog.check import constant
from mlaudit.catalog.load import load_catalog
from mlaudit.catalog.model import dataset, event_action, pieces
from tools.generate import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mlaudit.catalog.model import Catalog, Field, Kind

PATH: Final = "src/mlaudit/catalog/names.py"
OWNED: Final = (PATH,)

#: OpenTelemetry SeverityNumber.
_SEVERITY: Final = {"info": 9, "warn": 13, "error": 17}
_WIDTH: Final = 110

_HEAD: Final = f'''"""Names of the fields and kinds of event ({MARK}).

Written from ``mlaudit/catalog/data``. Imports neither YAML nor pydantic: the hot path uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(NamedTuple):
    """One kind of event, as far as making a record of it goes.

    Attributes:
        name: the kind, and the OTLP EventName.
        stream: class of its data stream; ``dataset`` is the ``event.dataset`` of that class.
        action: ``audit.action``; ``event_action`` is the ``event.action``, ``event_kind`` the ``event.kind``.
        categories, types: ``event.category`` and ``event.type``.
        severity, severity_failure: OpenTelemetry severity numbers, by outcome.
        message, message_failure: literal, field name, literal, …, literal: odd places are field names.
        durable: whether records of this kind are durable unless the policy says otherwise.
    """

    name: str
    stream: str
    dataset: str
    action: str
    event_action: str
    event_kind: str
    categories: tuple[str, ...]
    types: tuple[str, ...]
    severity: int
    severity_failure: int
    message: tuple[str, ...]
    message_failure: tuple[str, ...]
    durable: bool

'''

_TAIL: Final = '''
_APP_KIND: Final = "audit.app.*"
_APP_PREFIX: Final = "audit.app."
_APP_KINDS_KEPT: Final = 1024
_app_kinds: dict[str, Kind] = {}


def kind_of(name: str) -> Kind | None:
    """The kind of that name, for ``audit.app.…`` one made from the wildcard; None when there is none."""
    known = KINDS.get(name) or _app_kinds.get(name)
    if known is not None:
        return known
    words = name.removeprefix(_APP_PREFIX)
    if words == name or not all(_is_word(word) for word in words.split(".")):
        return None
    made = KINDS[_APP_KIND]._replace(name=name, event_action="app-" + words.replace(".", "-"))
    if len(_app_kinds) < _APP_KINDS_KEPT:
        _app_kinds[name] = made
    return made


def _is_word(word: str) -> bool:
    return word.isascii() and word.islower() and word.replace("_", "a").isalnum() and word[0].isalpha()
'''


def outputs(root: Path) -> Mapping[str, str]:
    """The generated module, by its path."""
    del root
    return {PATH: source(load_catalog())}


def source(catalog: Catalog) -> str:
    """The text of the generated module."""
    lines = [
        f'SCHEMA_VERSION: Final = "{catalog.envelope.schema_version}"',
        f'ECS_RELEASE: Final = "{catalog.envelope.ecs_version}"',
        "",
        "#: The kinds, without the wildcard of the application's own. Fields are written as their names.",
        *(f'{constant(name)}: Final = "{name}"' for name in catalog.kinds if not name.endswith("*")),
        "",
    ]
    for name, about, chosen in _sets(catalog):
        lines += [f"#: {about}", *_frozenset(name, chosen), ""]
    lines += ["#: Type of every field; a list of that type where the field is in LIST_FIELDS."]
    lines += ["FIELD_TYPES: Final[Mapping[str, str]] = {"]
    lines += [f'    "{name}": "{field.type}",' for name, field in catalog.fields.items()]
    lines += ["}", "", "KINDS: Final[Mapping[str, Kind]] = {"]
    for name, kind in catalog.kinds.items():
        lines += _kind(name, kind)
    lines += ["}", ""]
    return _HEAD + "\n" + "\n".join(lines) + _TAIL


def _sets(catalog: Catalog) -> Iterator[tuple[str, str, list[str]]]:
    def those(chosen: Iterable[tuple[str, Field]]) -> list[str]:
        return sorted(name for name, _ in chosen)

    fields = catalog.fields.items()
    yield (
        "PERSONAL_FIELDS",
        "Fields that may tell who a person is.",
        those(one for one in fields if one[1].sensitivity == "personal"),
    )
    yield (
        "SECRET_FIELDS",
        "Fields that may carry credentials.",
        those(one for one in fields if one[1].sensitivity == "secret"),
    )
    yield (
        "CONTENT_FIELDS",
        "Fields that may quote what was sent to a model or came from it.",
        those(one for one in fields if one[1].sensitivity == "content"),
    )
    yield (
        "IP_FIELDS",
        "Fields that must stay IP addresses.",
        those(one for one in fields if one[1].type == "ip"),
    )
    yield (
        "LIST_FIELDS",
        "Fields whose value is a list.",
        those(one for one in fields if one[1].list),
    )
    yield (
        "FLATTENED_FIELDS",
        "Fields whose value is an object of any keys; Elasticsearch refuses a document with another value there.",
        those(one for one in fields if one[1].type == "flattened"),
    )
    yield (
        "ORIGINAL_ONLY_FIELDS",
        "Fields that are kept in the sealed original and are not searchable.",
        those(one for one in fields if one[1].original_only),
    )
    yield (
        "COLLECTOR_FIELDS",
        "Fields that the collector adds beside the original; no record carries them.",
        those(one for one in fields if one[1].added_by_collector),
    )


def _kind(name: str, kind: Kind) -> Iterator[str]:
    yield f'    "{name}": Kind('
    for attribute, value in (
        ("name", _text(name)),
        ("stream", _text(kind.class_)),
        ("dataset", _text(dataset(kind.class_))),
        ("action", _text(kind.action)),
        ("event_action", _text(event_action(name))),
        ("event_kind", _text(kind.event_kind)),
        ("categories", _tuple(kind.ecs.category)),
        ("types", _tuple(kind.ecs.type)),
        ("severity", str(_SEVERITY[kind.severity.success])),
        ("severity_failure", str(_SEVERITY[kind.severity.failure])),
        ("message", _tuple(pieces(kind.message.success))),
        ("message_failure", _tuple(pieces(kind.message.failure))),
        ("durable", str(kind.durable)),
    ):
        line = f"        {attribute}={value},"
        if len(line) <= _WIDTH:
            yield line
            continue
        yield f"        {attribute}=("
        template = kind.message.success if attribute == "message" else kind.message.failure
        yield from (f"            {_text(part)}," for part in pieces(template))
        yield "        ),"
    yield "    ),"


def _frozenset(name: str, values: Iterable[str]) -> Iterator[str]:
    listed = [_text(value) for value in values]
    single = f"{name}: Final = frozenset({{{', '.join(listed)}}})"
    if len(single) <= _WIDTH and len(listed) == 1:
        yield single
        return
    yield f"{name}: Final = frozenset("
    yield "    {"
    yield from (f"        {value}," for value in listed)
    yield "    }"
    yield ")"


def _tuple(values: Iterable[str]) -> str:
    listed = [_text(value) for value in values]
    return f"({listed[0]},)" if len(listed) == 1 else f"({', '.join(listed)})"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
