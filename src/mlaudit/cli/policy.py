"""``mlaudit policy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

policy_app = typer.Typer(help="Check a policy file, and ask it what it would decide.", no_args_is_help=True)


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(help="The policy file.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """List every fault of a policy file; exit code 0 if it can be used, 1 if not, 2 if it cannot be read."""
    from mlaudit.policy import commands

    raise typer.Exit(commands.check(file, as_json=as_json))


@policy_app.command("explain")
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
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show which rule decides on an event, and why the rules before it do not."""
    from mlaudit.policy import commands
    from mlaudit.policy.evaluate import Facts
    from mlaudit.policy.explain import Access
    from mlaudit.policy.vocabulary import is_kind

    if not is_kind(kind):
        raise typer.BadParameter(
            f"expected a kind of docs/events.md or audit.app.*, found {kind!r}", param_hint="--kind"
        )
    facts = Facts(kind, service, route, model, actor)
    access = Access(table, path, rows) if table or path or rows is not None else None
    raise typer.Exit(commands.show_explanation(facts, policy, as_json=as_json, access=access))
