"""Checks the consistency of the catalog. Pure: returns issues, raises nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlaudit.catalog.ecs import EXPECTED_TYPES
from mlaudit.catalog.field_values import fault_of
from mlaudit.catalog.model import Catalog, Kind, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

_KIND_NAME = re.compile(r"audit(\.[a-z][a-z0-9_]*){2,}|audit\.app\.\*")
_FIELD_NAME = re.compile(r"@timestamp|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_ACTION = re.compile(r"[A-Z][A-Z_]*")


@dataclass(frozen=True, slots=True)
class Issue:
    """One inconsistency: its place in the catalog, and its description."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def check(catalog: Catalog) -> list[Issue]:
    """Every inconsistency of the catalog, in the order of its parts; empty when there is none."""
    return [
        *_fields(catalog),
        *_envelope(catalog),
        *_controls(catalog),
        *_policy(catalog),
        *(issue for name, kind in catalog.kinds.items() for issue in _kind(catalog, name, kind)),
        *_constants(catalog),
    ]


def constant(kind: str) -> str:
    """The Python name of a kind's constant: ``audit.ml.model.saved`` gives ``ML_MODEL_SAVED``."""
    return kind.removeprefix("audit.").replace(".", "_").upper()


def _fields(catalog: Catalog) -> Iterator[Issue]:
    for name, field in catalog.fields.items():
        where = f"field {name}"
        if not _FIELD_NAME.fullmatch(name):
            yield Issue(where, "the name must be lower-case words joined by dots")
        fault = fault_of(field, field.example)
        if fault:
            yield Issue(where, f"the example {fault}")
        if field.type == "any" and not field.original_only:
            yield Issue(where, "a field of type any cannot be mapped, so it must be original_only")
        if field.original_only and (field.unindexed or field.added_by_collector):
            yield Issue(where, "original_only excludes unindexed and added_by_collector")
        if field.unindexed and field.type != "keyword":
            yield Issue(where, "only a keyword can be unindexed")


def _envelope(catalog: Catalog) -> Iterator[Issue]:
    envelope = catalog.envelope
    parts = {"required": envelope.required, "sealed": envelope.sealed, "optional": envelope.optional}
    parts |= {f"group {name}": members for name, members in envelope.groups.items()}
    for part, names in parts.items():
        for name in names:
            if name not in catalog.fields:
                yield Issue(f"envelope {part}", f"unknown field {name}")


def _controls(catalog: Catalog) -> Iterator[Issue]:
    for control in catalog.controls.controls:
        scheme, _, clause = control.partition(":")
        if scheme not in catalog.controls.schemes or not clause:
            schemes = ", ".join(catalog.controls.schemes)
            yield Issue(f"control {control}", f"must be <scheme>:<clause> with one of {schemes}")


def _policy(catalog: Catalog) -> Iterator[Issue]:
    seen: set[str] = set()
    for section in catalog.policy.sections:
        for line in section.lines:
            if line.id in seen:
                yield Issue(f"policy line {line.id}", "the id is given twice")
            seen.add(line.id)
            if not line.id.startswith(f"{section.id}."):
                yield Issue(f"policy line {line.id}", f"does not begin with its section {section.id}")


def _kind(catalog: Catalog, name: str, kind: Kind) -> Iterator[Issue]:
    where = f"kind {name}"
    if not _KIND_NAME.fullmatch(name):
        yield Issue(where, "the name must be audit.<area>.<verb>, lower-case words joined by dots")
    if not _ACTION.fullmatch(kind.action):
        yield Issue(where, f"the action {kind.action!r} must be an upper-case verb")
    if kind.class_ not in catalog.classes:
        yield Issue(where, f"unknown class {kind.class_}; known: {', '.join(catalog.classes)}")
    if not kind.policy:
        yield Issue(where, "names no line of the policy document")
    for line in kind.policy:
        if line not in catalog.policy.lines():
            yield Issue(where, f"unknown policy line {line}")
    yield from _classification(where, kind)
    if not kind.controls:
        yield Issue(where, "names no control")
    for control in kind.controls:
        if control not in catalog.controls.controls:
            yield Issue(where, f"unknown control {control}")
    yield from _kind_fields(catalog, name, kind)
    yield from _message(catalog, name, kind)
    yield from _sample(catalog, name, kind)


def _constants(catalog: Catalog) -> Iterator[Issue]:
    constants: dict[str, str] = {}
    for name in catalog.kinds:
        other = constants.setdefault(constant(name), name)
        if other != name:
            yield Issue(f"kind {name}", f"has the same constant {constant(name)} as {other}")


def _classification(where: str, kind: Kind) -> Iterator[Issue]:
    if not kind.ecs.category:
        yield Issue(where, "has no ECS category")
    if not kind.ecs.type:
        yield Issue(where, "has no ECS type")
    allowed: set[str] = set()
    for category in kind.ecs.category:
        if category in EXPECTED_TYPES:
            allowed |= EXPECTED_TYPES[category]
        else:
            yield Issue(where, f"{category} is not an ECS category; allowed: {', '.join(EXPECTED_TYPES)}")
    for one in kind.ecs.type:
        if one not in allowed:
            yield Issue(
                where, f"ECS does not expect type {one} with {', '.join(kind.ecs.category) or 'nothing'}"
            )
    if not 0 < kind.ocsf.class_uid < 10_000 or not kind.ocsf.class_name:
        yield Issue(where, f"the OCSF class {kind.ocsf.class_uid} {kind.ocsf.class_name!r} is not a class")


def _kind_fields(catalog: Catalog, name: str, kind: Kind) -> Iterator[Issue]:
    where = f"kind {name}"
    for field in (*kind.required, *kind.optional):
        if field.startswith("$"):
            if field[1:] not in catalog.envelope.groups:
                yield Issue(where, f"unknown field group {field}")
        elif field not in catalog.fields:
            yield Issue(where, f"unknown field {field}")
        elif catalog.fields[field].added_by_collector:
            yield Issue(where, f"{field} is added by the collector, so no record carries it")


def _message(catalog: Catalog, name: str, kind: Kind) -> Iterator[Issue]:
    where = f"kind {name}"
    required, _ = catalog.fields_of(name)
    for template in (kind.message.success, kind.message.failure):
        try:
            named = pieces(template)[1::2]
        except ValueError as error:
            yield Issue(where, f"message: {error}")
            continue
        for field in named:
            if field not in required:
                yield Issue(where, f"the message names {field}, which the kind does not require")


def _sample(catalog: Catalog, name: str, kind: Kind) -> Iterator[Issue]:
    where = f"kind {name}"
    if not kind.sample:
        yield Issue(where, "has no sample")
        return
    try:
        sample = catalog.sample_of(name)
    except ValueError:
        return  # the message is invalid, which is reported separately
    required, optional = catalog.fields_of(name)
    for field in required:
        if field not in sample:
            yield Issue(where, f"the sample lacks the required field {field}")
    for field, value in sample.items():
        if field not in required and field not in optional:
            yield Issue(where, f"the sample has {field}, which the kind does not list")
        elif field in catalog.fields:
            fault = fault_of(catalog.fields[field], value)
            if fault:
                yield Issue(where, f"the sample's {field} {fault}")
