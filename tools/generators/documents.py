"""Generates the reference of events and fields, and the table of how each line of the policy document is met."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from mlaudit.catalog.load import load_catalog
from mlaudit.catalog.model import dataset
from tools.generate import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlaudit.catalog.model import Catalog, Field, Kind, PolicyLine, PolicySection

EVENTS: Final = "docs/events.md"
COVERAGE: Final = "docs/coverage.md"
OWNED: Final = (EVENTS, COVERAGE)


def outputs(root: Path) -> Mapping[str, str]:
    """Both documents, by path."""
    del root
    catalog = load_catalog()
    return {EVENTS: events(catalog), COVERAGE: coverage(catalog)}


def events(catalog: Catalog) -> str:
    """The reference: every kind in a table, then each on its own, then every field."""
    return "\n".join(
        [
            f"<!-- {MARK} -->",
            "# Events",
            "",
            f"Every kind of audit event and every field of a record, schema version {catalog.envelope.schema_version}. "
            f"ECS is {catalog.envelope.ecs_version}, OCSF {catalog.envelope.ocsf_version}. "
            "Numbers in the column *Policy* are lines of the governance policy, see [coverage](coverage.md).",
            "",
            "| Kind | Meaning | Class | Policy | Guarantee |",
            "|---|---|---|---|---|",
            *(
                f"| [`{name}`](#{_anchor(name)}) | {_cell(kind.meaning)} | {kind.class_} "
                f"| {', '.join(kind.policy)} | {_guarantee(kind)} |"
                for name, kind in catalog.kinds.items()
            ),
            "",
            "The guarantee is what holds unless the audit policy says otherwise: `durable` returns after the record is "
            "on disk, `buffered` after the operating system has it.",
            "",
            "## Classes",
            "",
            "Records go to the data stream `logs-mlaudit.<class>-<namespace>`. The full profile of "
            "`mlaudit install` keeps them as long as this; a lifecycle policy that the cluster already has is kept.",
            "",
            "| Class | Meaning | Days kept | Why |",
            "|---|---|---|---|",
            *(
                f"| {name} | {_cell(one.meaning)} | {one.retention_days} | {_cell(one.why)} |"
                for name, one in catalog.classes.items()
            ),
            "",
            "## Kinds",
            "",
            *(line for name, kind in catalog.kinds.items() for line in _kind(catalog, name, kind)),
            "## What every record carries",
            "",
            *_field_list("Always", catalog.envelope.required),
            *_field_list("Spliced in when the record is sealed", catalog.envelope.sealed),
            *_field_list("Where it is known", catalog.envelope.optional),
            "## Fields",
            "",
            "Sensitivity says what a field may tell: `personal` who a person is, `secret` a credential, `content` what "
            "was sent to a model or came from it. A field without a search type is kept in the sealed original "
            "and is not searchable.",
            "",
            *(
                line
                for group, names in catalog.field_groups.items()
                for line in _fields(catalog, group, names)
            ),
        ]
    )


def coverage(catalog: Catalog) -> str:
    """Every line of the policy document's sections 2 to 9: its kinds, how they are captured, and the proof."""
    by_line = kinds_by_line(catalog)
    lines = catalog.policy.lines()
    met = sum(not is_open(line, by_line[line.id]) for line in lines.values())
    return "\n".join(
        [
            f"<!-- {MARK} -->",
            "# Coverage of the governance policy",
            "",
            f"What of *{catalog.policy.document}*, version {catalog.policy.version}, is recorded by which kind of "
            f"[event](events.md) or met by another part of the product, and which test proves it. "
            f"{met} of {len(lines)} lines are met and proven; **open** stands at any other.",
            "",
            "A kind says that such an event is recorded when it is seen. What an organisation has to do itself (who "
            "may read, who reviews, who decides) no software does for it; there the product gives the means.",
            "",
            *(line for section in catalog.policy.sections for line in _section(catalog, section, by_line)),
            "## Controls",
            "",
            "| Control | Title | Kinds |",
            "|---|---|---|",
            *(_control(catalog, control, title) for control, title in catalog.controls.controls.items()),
            "",
            *(f"- {scheme}: {title}" for scheme, title in catalog.controls.schemes.items()),
            "",
        ]
    )


def kinds_by_line(catalog: Catalog) -> Mapping[str, list[str]]:
    """The kinds that name each line of the policy document."""
    return {
        line: [name for name, kind in catalog.kinds.items() if line in kind.policy]
        for line in catalog.policy.lines()
    }


def is_open(line: PolicyLine, kinds: list[str]) -> bool:
    """Whether a line is not met, or not proven to be met."""
    return not line.proofs or not (kinds or line.met_by)


def _section(catalog: Catalog, section: PolicySection, by_line: Mapping[str, list[str]]) -> Iterator[str]:
    yield f"## {section.id}. {section.title}"
    yield ""
    for line in section.lines:
        kinds = by_line[line.id]
        text = f"{line.heading}: {line.text}" if line.heading else line.text
        yield f"### {line.id} {text}"
        yield ""
        if is_open(line, kinds):
            yield "**open**"
            yield ""
        if kinds:
            yield "| Kind | Captured |"
            yield "|---|---|"
            for name in kinds:
                captured = _cell(catalog.kinds[name].captured)
                yield f"| [`{name}`](events.md#{_anchor(name)}) | {captured} |"
            yield ""
        if line.met_by:
            yield f"{'Also met' if kinds else 'Met'} by: {line.met_by}"
            yield ""
        if line.proofs:
            yield f"Proved by {', '.join(f'`{proof}`' for proof in line.proofs)}."
            yield ""


def _control(catalog: Catalog, control: str, title: str) -> str:
    kinds = ", ".join(f"`{name}`" for name, kind in catalog.kinds.items() if control in kind.controls)
    return f"| {control} | {_cell(title)} | {kinds or '**open**'} |"


def _kind(catalog: Catalog, name: str, kind: Kind) -> Iterator[str]:
    lines = catalog.policy.lines()
    required, optional = catalog.fields_of(name)
    always = {*catalog.envelope.required, *catalog.envelope.optional}
    yield f"### {name}"
    yield ""
    yield kind.meaning
    yield ""
    yield f"- Policy: {'; '.join(f'{line} {lines[line].text}' for line in kind.policy)}"
    yield (
        f"- ECS: `event.dataset` {dataset(kind.class_)}, `event.kind` {kind.event_kind}, "
        f"`event.category` {', '.join(kind.ecs.category)}, `event.type` {', '.join(kind.ecs.type)}; "
        f"`audit.action` {kind.action}"
    )
    yield f"- OCSF: {kind.ocsf.class_name} ({kind.ocsf.class_uid})"
    yield f"- Controls: {', '.join(kind.controls)}"
    yield f"- Severity: {kind.severity.success}, on failure {kind.severity.failure}; {_guarantee(kind)}"
    yield f"- Captured: {kind.captured}"
    own = [field for field in required if field not in always]
    if own:
        yield f"- Own fields, always: {', '.join(f'`{field}`' for field in own)}"
    more = [field for field in optional if field not in always]
    if more:
        yield f"- Own fields, where known: {', '.join(f'`{field}`' for field in more)}"
    yield ""
    yield "<details><summary>Sample</summary>"
    yield ""
    yield "```json"
    yield json.dumps(catalog.sample_of(name), indent=2, ensure_ascii=False)
    yield "```"
    yield ""
    yield "</details>"
    yield ""


def _field_list(title: str, names: tuple[str, ...]) -> Iterator[str]:
    yield f"{title}: {', '.join(f'`{name}`' for name in names)}."
    yield ""


def _fields(catalog: Catalog, group: str, names: tuple[str, ...]) -> Iterator[str]:
    yield f"### {group}"
    yield ""
    yield "| Field | Type | Sensitivity | Origin | Meaning | Example |"
    yield "|---|---|---|---|---|---|"
    for name in names:
        field = catalog.fields[name]
        example = json.dumps(field.example, ensure_ascii=False)
        if len(example) > _EXAMPLE:
            example = example[:_EXAMPLE] + "…"
        yield (
            f"| `{name}` | {_type(field)} | {field.sensitivity} | {field.origin} "
            f"| {_cell(field.meaning)} | `{_cell(example)}` |"
        )
    yield ""


_EXAMPLE: Final = 60


def _type(field: Field) -> str:
    if field.original_only:
        return "in the original only"
    shown = "keyword, not searchable" if field.unindexed else field.type
    return f"list of {shown}" if field.list else shown


def _guarantee(kind: Kind) -> str:
    return "durable" if kind.durable else "buffered"


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading: without punctuation but hyphens and underscores."""
    return "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "-_")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
