"""The output of ``mlaudit catalog``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mlaudit.catalog.load import load_catalog
from mlaudit.errors import EventError

if TYPE_CHECKING:
    from mlaudit.catalog.model import Catalog


def show(kind: str, *, as_json: bool) -> None:
    """Print every kind, or one.

    Raises:
        EventError: the kind does not exist.
    """
    catalog = load_catalog()
    console = Console(soft_wrap=True)
    if kind and kind not in catalog.kinds:
        raise EventError(f"expected a kind of event, found {kind!r}; known: {', '.join(catalog.kinds)}")
    if as_json:
        chosen = [kind] if kind else list(catalog.kinds)
        console.print_json(json.dumps([_described(catalog, name) for name in chosen], ensure_ascii=False))
    elif kind:
        _show_one(catalog, kind, console)
    else:
        table = Table("kind", "class", "policy", "meaning", box=None)
        for name, one in catalog.kinds.items():
            table.add_row(name, one.class_, ", ".join(one.policy), one.meaning)
        console.print(table)


def _described(catalog: Catalog, name: str) -> dict[str, Any]:
    required, optional = catalog.fields_of(name)
    return {
        "kind": name,
        **catalog.kinds[name].model_dump(
            mode="json", by_alias=True, exclude={"required", "optional", "sample"}
        ),
        "required": required,
        "optional": optional,
        "sample": catalog.sample_of(name),
    }


def _show_one(catalog: Catalog, name: str, console: Console) -> None:
    kind = catalog.kinds[name]
    lines = catalog.policy.lines()
    console.print(f"[bold]{name}[/]: {kind.meaning}")
    for line in kind.policy:
        console.print(f"  policy {line}: {lines[line].text}", highlight=False)
    for control in kind.controls:
        console.print(f"  control {control}: {catalog.controls.controls[control]}", highlight=False)
    console.print(f"  captured: {kind.captured}", highlight=False)
    required, optional = catalog.fields_of(name)
    table = Table("field", "type", "", "meaning", box=None)
    for field in (*required, *optional):
        one = catalog.fields[field]
        table.add_row(field, one.type, "required" if field in required else "", one.meaning)
    console.print(table)
    console.print_json(json.dumps(catalog.sample_of(name), ensure_ascii=False))
