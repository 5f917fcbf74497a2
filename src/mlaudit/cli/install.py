"""``mlaudit install``."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from mlaudit.cli import options, output

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.install.apply import Report
    from mlaudit.install.plan import Change

_SHOWN: Final = 20
_PAST: Final = {"create": "created", "update": "updated", "roll over": "rolled over", "keep": "kept"}


class _Profile(StrEnum):
    AUTO = "auto"
    FULL = "full"
    REDUCED = "reduced"


def install_command(
    elasticsearch: options.ElasticsearchRequired,
    ca_file: options.CaFile = None,
    profile: Annotated[
        _Profile, typer.Option("--profile", help="What the cluster can carry; auto asks it.")
    ] = _Profile.AUTO,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Install templates, lifecycle policies and roles into Elasticsearch; running it again changes nothing.

    Credentials come from MLAUDIT_ES_USERNAME and MLAUDIT_ES_PASSWORD, or MLAUDIT_ES_API_KEY; each may be given
    as a file by the variable with _FILE behind its name.
    """
    from mlaudit.cluster.client import credentials
    from mlaudit.install.apply import install

    report = install(elasticsearch, credentials(os.environ), ca_file, dry_run, profile.value)
    if as_json:
        output.write_json({"ok": True, "changed": len(report.changed), **asdict(report)})
    else:
        show(report, output.console())


def show(report: Report, console: Console) -> None:
    """Print a report: one line per change, with the differences that caused it."""
    why = f" (it lacks {', '.join(report.missing)})" if report.missing else ""
    console.print(f"Elasticsearch {report.version} at {escape(report.url)}: profile {report.profile}{why}")
    for change in report.changes:
        if change.action != "none":
            _show_change(change, console, dry_run=report.dry_run)
    for note in report.notes:
        console.print(f"[yellow]note[/]: {escape(note)}")
    unchanged = len(report.changes) - len(report.changed)
    if not report.changed:
        console.print(f"[green]nothing to change[/]: {unchanged} are as they should be")
    elif report.dry_run:
        console.print(f"would change {len(report.changed)}, leave {unchanged}; nothing was changed")
    else:
        console.print(f"[green]changed {len(report.changed)}[/], left {unchanged}")


def _show_change(change: Change, console: Console, *, dry_run: bool) -> None:
    from mlaudit.install.plan import SPOKEN

    verb = f"would {change.action}" if dry_run else _PAST[change.action]
    console.print(f"  {verb} {SPOKEN[change.kind]} [bold]{escape(change.name)}[/]")
    for line in change.differences[:_SHOWN]:
        console.print(f"      {escape(line)}", highlight=False)
    if len(change.differences) > _SHOWN:
        console.print(f"      and {len(change.differences) - _SHOWN} more")
