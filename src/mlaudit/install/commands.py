"""What ``mlaudit install`` prints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape

from mlaudit.cluster.client import credentials
from mlaudit.install.apply import Profile, Report, install
from mlaudit.install.plan import SPOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.install.plan import Change

_SHOWN: Final = 20
_PAST: Final = {"create": "created", "update": "updated", "roll over": "rolled over", "keep": "kept"}


def run(url: str, ca_file: Path | None, profile: Profile, *, dry_run: bool) -> None:
    """Install, and say what was done.

    Raises:
        InstallError: see ``install``.
    """
    show(install(url, credentials(os.environ), ca_file, dry_run, profile), Console(soft_wrap=True))


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
    verb = f"would {change.action}" if dry_run else _PAST[change.action]
    console.print(f"  {verb} {SPOKEN[change.kind]} [bold]{escape(change.name)}[/]")
    for line in change.differences[:_SHOWN]:
        console.print(f"      {escape(line)}", highlight=False)
    if len(change.differences) > _SHOWN:
        console.print(f"      and {len(change.differences) - _SHOWN} more")
