"""``mlaudit policy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from mlaudit.cli import options, output
from mlaudit.cli.command import JsonErrors
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.policy.explain import Explanation
    from mlaudit.policy.load import Inspection

OK: Final = 0
WRONG: Final = 1
UNREADABLE: Final = 2

policy_app = typer.Typer(help="Check a policy file, and ask it what it would decide.", no_args_is_help=True)


@policy_app.command("check", cls=JsonErrors)
def policy_check(
    file: Annotated[Path, typer.Argument(help="The policy file.", metavar="FILE")],
    as_json: options.Json = False,
) -> None:
    """List every fault of a policy file; exit code 0 if it can be used, 1 if not, 2 if it cannot be read."""
    from mlaudit.policy.load import inspect_policy, read_file

    console = output.console()
    shown = safe(str(file))
    try:
        content = read_file(file)
    except OSError as error:
        why = f"{shown}: cannot be read ({error.strerror or error}); expected a readable file"
        if as_json:
            output.write_json(
                {
                    "file": str(file),
                    "ok": False,
                    "unreadable": why,
                    "faults": [],
                    "warnings": [],
                    "error": why,
                }
            )
        else:
            console.print(Text(why, style="red"))
        raise typer.Exit(UNREADABLE) from None
    found = inspect_policy(content)
    if as_json:
        output.write_json(
            {
                "file": str(file),
                "ok": found.policy is not None,
                "digest": found.policy.digest if found.policy else None,
                "faults": list(found.faults),
                "warnings": list(found.warnings),
            }
        )
    else:
        show_inspection(found, shown, console)
    raise typer.Exit(OK if found.policy else WRONG)


@policy_app.command("explain", cls=JsonErrors)
def policy_explain(
    kind: Annotated[str, typer.Option("--kind", help="Kind of the event, e.g. audit.ml.prediction.")],
    service: Annotated[str, typer.Option("--service", help="Name of the service.")] = "",
    route: Annotated[str, typer.Option("--route", help="Route of the request, e.g. /predict.")] = "",
    model: Annotated[str, typer.Option("--model", help="Name of the model.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="Who acts, before pseudonymisation.")] = "",
    table: Annotated[str, typer.Option("--table", help="Of an access to data: the table.")] = "",
    path: Annotated[str, typer.Option("--path", help="Of an access to data: the absolute path or URI.")] = "",
    rows: Annotated[
        int | None, typer.Option("--rows", help="Of an access to data: how many rows.", min=0)
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="The policy file; the built-in one if absent.", metavar="FILE"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show which rule decides on an event, and why the rules before it do not."""
    from mlaudit.policy.evaluate import Facts
    from mlaudit.policy.explain import Access, explain
    from mlaudit.policy.load import BUILT_IN, load_policy
    from mlaudit.policy.vocabulary import is_kind

    if not is_kind(kind):
        raise typer.BadParameter(
            f"expected a kind of docs/events.md or audit.app.*, found {kind!r}", param_hint="--kind"
        )
    facts = Facts(kind, service, route, model, actor)
    access = Access(table, path, rows) if table or path or rows is not None else None
    found = explain(load_policy(policy), facts, access)
    if as_json:
        output.write_json({"policy": str(policy) if policy else BUILT_IN, **found.as_dict()})
    else:
        show_explanation(found, f"{kind} under {policy or f'the {BUILT_IN}'}", output.console())


def show_inspection(found: Inspection, shown: str, console: Console) -> None:
    """Print every fault and warning of a policy file."""
    for fault in found.faults:
        console.print(Text.assemble(("fault    ", "bold red"), f"{shown}: {fault}"))
    for warning in found.warnings:
        console.print(Text.assemble(("warning  ", "yellow"), f"{shown}: {warning}"))
    if found.policy is None:
        console.print(
            Text(f"{shown}: {len(found.faults)} fault(s); this policy would not be loaded", style="red")
        )
        return
    summary = f"revision {found.policy.revision}, {len(found.policy.rules)} rule(s), digest {found.policy.digest[:16]}"
    console.print(Text(f"{shown}: ok, {summary}", style="green"))


def show_explanation(found: Explanation, title: str, console: Console) -> None:
    """Print which rule decides on an event, and why; for an access also whether the policy records it."""
    table = Table(title=Text(safe(title)), title_justify="left")
    table.add_column("Rule", style="bold", no_wrap=True)
    table.add_column("Decides")
    table.add_column("Why")
    for step in found.steps:
        style = "green" if step.matched else "dim"
        table.add_row(
            Text(safe(step.rule)), Text("yes" if step.matched else "no", style=style), Text(safe(str(step)))
        )
    output.print_table(console, table)
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
    output.print_table(console, result)
