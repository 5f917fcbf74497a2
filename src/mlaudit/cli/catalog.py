"""``mlaudit catalog``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mlaudit.cli import options, output
from mlaudit.errors import EventError

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.catalog.model import Catalog


def _kinds(incomplete: str) -> list[str]:
    from mlaudit.catalog.load import load_catalog

    return [kind for kind in load_catalog().kinds if kind.startswith(incomplete)]


def catalog_command(
    kind: Annotated[
        str, typer.Argument(help="A kind of event; all of them when left out.", autocompletion=_kinds)
    ] = "",
    as_json: options.Json = False,
) -> None:
    """List the kinds of event, or show one with its fields and a sample."""
    from mlaudit.catalog.describe import describe
    from mlaudit.catalog.load import load_catalog

    catalog = load_catalog()
    if kind and kind not in catalog.kinds:
        raise EventError(f"expected a kind of event, found {kind!r}; known: {', '.join(catalog.kinds)}")
    if as_json:
        output.write_json([describe(catalog, name) for name in ([kind] if kind else catalog.kinds)])
    elif kind:
        show_kind(catalog, kind, output.console())
    else:
        show_kinds(catalog, output.console())


def show_kinds(catalog: Catalog, console: Console) -> None:
    """Print every kind, one a row."""
    table = Table("kind", "class", "policy", "meaning", box=None)
    table.columns[0].no_wrap = True
    for name, one in catalog.kinds.items():
        table.add_row(name, one.class_, ", ".join(one.policy), one.meaning)
    output.print_table(console, table)


def show_kind(catalog: Catalog, name: str, console: Console) -> None:
    """Print one kind with its fields and a sample."""
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
    table.columns[0].no_wrap = True
    for field in (*required, *optional):
        one = catalog.fields[field]
        table.add_row(field, one.type, "required" if field in required else "", one.meaning)
    output.print_table(console, table)
    console.print_json(json.dumps(catalog.sample_of(name), ensure_ascii=False))
