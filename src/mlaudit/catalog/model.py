"""The schema of the event catalog's YAML files. Strict: an unknown key is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

Sensitivity = Literal["none", "personal", "secret", "content"]
Origin = Literal["ecs", "otel", "mlaudit"]
FieldType = Literal[
    "keyword",
    "constant_keyword",
    "wildcard",
    "match_only_text",
    "long",
    "double",
    "boolean",
    "ip",
    "date_nanos",
    "flattened",
    "any",
]
Severity = Literal["info", "warn", "error"]
#: YAML has lists only; everything else stays strict.
Names = Annotated[tuple[str, ...], Setting(strict=False)]

#: A kind whose name ends so stands for every kind that begins like it.
WILDCARD = ".*"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Field(_Strict):
    """One field of a record.

    Attributes:
        type: Elasticsearch field type in a full cluster; ``any`` is any JSON, stored but not indexed.
        list: the value is a list of that type.
        unindexed: mapped, but neither indexed nor in doc values; any length.
        original_only: only in the sealed original; not mapped.
        added_by_collector: added by the collector beside the original.
    """

    type: FieldType
    origin: Origin
    sensitivity: Sensitivity
    meaning: str = Setting(min_length=1)
    example: Any
    list: bool = False
    unindexed: bool = False
    original_only: bool = False
    added_by_collector: bool = False


class EcsClass(_Strict):
    """ECS categorisation of a kind."""

    category: Names
    type: Names


class OcsfClass(_Strict):
    """OCSF event class of a kind."""

    class_uid: int
    class_name: str


class SeverityByOutcome(_Strict):
    """Severity of a record, by its outcome; ``unknown`` counts as success."""

    success: Severity
    failure: Severity


class MessageByOutcome(_Strict):
    """Sentence of a record, by its outcome, with ``{field.name}`` places; ``unknown`` counts as success."""

    success: str
    failure: str


class Kind(_Strict):
    """One kind of event, as written in the YAML file."""

    meaning: str
    class_: str = Setting(alias="class")
    policy: Names
    action: str
    event_kind: Literal["event", "alert"] = "event"
    ecs: EcsClass
    ocsf: OcsfClass
    controls: Names
    severity: SeverityByOutcome
    durable: bool
    captured: str
    message: MessageByOutcome
    required: Names
    optional: Names
    sample: dict[str, Any]


class StreamClass(_Strict):
    """A class of data streams, ``logs-mlaudit.<class>-<namespace>``."""

    meaning: str
    retention_days: int = Setting(gt=0)
    why: str


class Envelope(_Strict):
    """The fields that every record has."""

    schema_version: str
    ecs_version: str
    ocsf_version: str
    required: Names
    sealed: Names
    optional: Names
    groups: dict[str, Names]
    sample: dict[str, Any]


class Controls(_Strict):
    """Controls that kinds may name, as ``<scheme>:<clause>``."""

    schemes: dict[str, str]
    controls: dict[str, str]


class PolicyLine(_Strict):
    """One line of the governance policy document.

    Attributes:
        id: section and place, e.g. ``3.1.2``.
        text: the text of the document.
        heading: the heading of the line in the document.
        met_by: further features that meet it, besides the kinds of event that name it.
        proofs: the tests that prove it, as ``tests/<path>.py::<name>``.
    """

    id: str
    text: str
    heading: str | None = None
    met_by: str | None = None
    proofs: Names = ()


class PolicySection(_Strict):
    """One numbered section of the governance policy document."""

    id: str
    title: str
    lines: tuple[PolicyLine, ...] = Setting(strict=False)


class PolicyDocument(_Strict):
    """The lines of the governance policy document that kinds refer to."""

    document: str
    version: str
    sections: tuple[PolicySection, ...] = Setting(strict=False)

    def lines(self) -> Mapping[str, PolicyLine]:
        """Every line by its id, in the document's order."""
        return {line.id: line for section in self.sections for line in section.lines}


class Catalog(_Strict):
    """The whole catalog. Kinds and fields are in the order in which they are written."""

    fields: dict[str, Field]
    field_groups: dict[str, Names]
    kinds: dict[str, Kind]
    areas: dict[str, str]
    classes: dict[str, StreamClass]
    controls: Controls
    envelope: Envelope
    policy: PolicyDocument

    def fields_of(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Required and optional fields of a kind, its own before the envelope's, groups resolved."""
        kind = self.kinds[name]
        required = (*self._resolved(kind.required), *self.envelope.required)
        optional = (*self._resolved(kind.optional), *self.envelope.optional)
        return _unique(required), tuple(one for one in _unique(optional) if one not in set(required))

    def sample_of(self, name: str) -> dict[str, Any]:
        """The complete sample of a kind: a record body without its sealed fields, keys sorted."""
        kind = self.kinds[name]
        body: dict[str, Any] = {
            **self.envelope.sample,
            "ecs.version": self.envelope.ecs_version,
            "event.kind": kind.event_kind,
            "event.category": list(kind.ecs.category),
            "event.type": list(kind.ecs.type),
            "event.action": event_action(name),
            "event.dataset": dataset(kind.class_),
            "event.module": "mlaudit",
            "event.provider": "mlaudit",
            "audit.kind": name,
            "audit.action": kind.action,
            "audit.schema.version": self.envelope.schema_version,
            "audit.guarantee": "durable" if kind.durable else "buffered",
            **kind.sample,
        }
        body.setdefault("audit.record.id", body.get("event.id"))
        body.setdefault("audit.outcome", body.get("event.outcome"))
        template = kind.message.failure if body.get("event.outcome") == "failure" else kind.message.success
        body.setdefault("message", sentence(template, body))
        return dict(sorted(body.items()))

    def _resolved(self, names: tuple[str, ...]) -> tuple[str, ...]:
        found: list[str] = []
        for name in names:
            if name.startswith("$"):
                found.extend(self.envelope.groups.get(name[1:], (name,)))
            else:
                found.append(name)
        return tuple(found)


def event_action(name: str) -> str:
    """The ``event.action`` of a kind: ``audit.ml.training.started`` gives ``training-started``."""
    return name.removeprefix("audit.").removeprefix("ml.").removesuffix(WILDCARD).replace(".", "-")


def dataset(stream_class: str) -> str:
    """The ``event.dataset`` and ``data_stream.dataset`` of a class."""
    return f"mlaudit.{stream_class}"


def pieces(template: str) -> tuple[str, ...]:
    """A message template as literal, field, literal, …, literal: odd places are field names.

    Raises:
        ValueError: a brace without its partner, or an empty place.
    """
    parts: list[str] = []
    rest = template
    while True:
        literal, opened, rest = rest.partition("{")
        if "}" in literal:
            raise ValueError(f"'}}' without '{{' in {template!r}")
        parts.append(literal)
        if not opened:
            return tuple(parts)
        field, closed, rest = rest.partition("}")
        if not closed or not field or "{" in field:
            raise ValueError(f"'{{' without a field name and '}}' in {template!r}")
        parts.append(field)


def sentence(template: str, body: Mapping[str, Any]) -> str:
    """The message of a body; a field that is absent reads ``unknown``."""
    parts = pieces(template)
    return "".join(part if at % 2 == 0 else str(body.get(part, "unknown")) for at, part in enumerate(parts))


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
