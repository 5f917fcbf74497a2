"""The output of ``mlaudit policy check`` and ``mlaudit policy explain``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlaudit.policy.explain import Access, explain
from mlaudit.policy.load import BUILT_IN, inspect_policy, load_policy, read_file
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.policy.evaluate import Facts

OK = 0
WRONG = 1
UNREADABLE = 2


def check(path: Path, *, as_json: bool, console: Console | None = None) -> int:
    """Print every fault and warning of a policy file.

    Returns:
        0 when the policy can be used, 1 when it has faults, 2 when the file cannot be read.
    """
    console = console or Console(soft_wrap=True)
    shown = safe(str(path))
    try:
        content = read_file(path)
    except OSError as error:
        why = f"{shown}: cannot be read ({error.strerror or error}); expected a readable file"
        if as_json:
            _print_json(
                console, {"file": str(path), "ok": False, "unreadable": why, "faults": [], "warnings": []}
            )
        else:
            console.print(Text(why, style="red"))
        return UNREADABLE
    found = inspect_policy(content)
    if as_json:
        _print_json(
            console,
            {
                "file": str(path),
                "ok": found.policy is not None,
                "digest": found.policy.digest if found.policy else None,
                "faults": list(found.faults),
                "warnings": list(found.warnings),
            },
        )
        return OK if found.policy else WRONG
    for fault in found.faults:
        console.print(Text.assemble(("fault    ", "bold red"), f"{shown}: {fault}"))
    for warning in found.warnings:
        console.print(Text.assemble(("warning  ", "yellow"), f"{shown}: {warning}"))
    if found.policy is None:
        console.print(
            Text(f"{shown}: {len(found.faults)} fault(s); this policy would not be loaded", style="red")
        )
        return WRONG
    summary = f"revision {found.policy.revision}, {len(found.policy.rules)} rule(s), digest {found.policy.digest[:16]}"
    console.print(Text(f"{shown}: ok, {summary}", style="green"))
    return OK


def show_explanation(
    facts: Facts,
    path: Path | None,
    *,
    as_json: bool,
    access: Access | None = None,
    console: Console | None = None,
) -> int:
    """Print which rule of a policy (None: the built-in one) decides on an event, and why.

    For an ``access`` it also prints whether the policy's ``data`` records it.

    Raises:
        PolicyError: the policy is invalid; lists every fault.
    """
    console = console or Console(soft_wrap=True)
    found = explain(load_policy(path), facts, access)
    if as_json:
        _print_json(console, {"policy": str(path) if path else BUILT_IN, **found.as_dict()})
        return OK
    title = safe(f"{facts.kind} under {path or f'the {BUILT_IN}'}")
    table = Table(title=Text(title), title_justify="left")
    table.add_column("Rule", style="bold", no_wrap=True)
    table.add_column("Decides")
    table.add_column("Why")
    for step in found.steps:
        style = "green" if step.matched else "dim"
        table.add_row(
            Text(safe(step.rule)), Text("yes" if step.matched else "no", style=style), Text(safe(str(step)))
        )
    console.print(table)
    result = Table(show_header=False, box=None)
    result.add_column(style="bold", no_wrap=True)
    result.add_column()
    for name in ("rule", "level", "guarantee", "on_failure", "retention"):
        value = getattr(found, name)
        result.add_row(name, Text(value.name.lower() if name == "level" else safe(str(value))))
    for method, fields in found.redactions:
        result.add_row("redact", Text(safe(f"{method}: {fields}")))
    if found.note:
        result.add_row("note", Text(safe(found.note)))
    console.print(result)
    return OK


def _print_json(console: Console, value: dict[str, object]) -> None:
    console.print(json.dumps(value, indent=2, ensure_ascii=True), markup=False, highlight=False)
