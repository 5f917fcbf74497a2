"""``mlaudit resend``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from mlaudit.cli import options, output
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.verify.repair.recover import Recovery

_SHOWN: Final = 20


def resend_command(
    elasticsearch: options.Elasticsearch = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that is kept here, not only what is missing.")
    ] = False,
    stream: options.Stream = "",
    archive: options.Archives = None,
    dry_run: options.DryRun = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait until all of it is stored.")
    ] = 60.0,
    keys: options.Keys = None,
    follow_rotations: options.FollowRotations = False,
    checkpoint: options.Checkpoints = None,
    namespace: options.Namespace = "*",
    ca_file: options.CaFile = None,
    as_json: options.Json = False,
) -> None:
    """Send again what Elasticsearch lacks, from what this host retains or from an archive.

    Exit code 0 when all of it is stored, 1 when some is still missing, 2 when it could not check. The collector is
    that of the MLAUDIT_* settings.
    """
    from mlaudit.verify.inputs import Cluster, Trust
    from mlaudit.verify.repair.recover import recover

    with output.could_not_check("resend", as_json=as_json):
        recovery = recover(
            Cluster(elasticsearch, ca_file, namespace),
            Trust(keys, follow_rotations, tuple(checkpoint or ())),
            archive or (),
            everything=everything,
            stream=stream,
            dry_run=dry_run,
            wait=wait,
        )
    if as_json:
        output.write_json(recovery.to_json())
    else:
        show(recovery, output.console())
    raise typer.Exit(output.FINE if recovery.ok else output.FINDINGS)


def show(recovery: Recovery, console: Console) -> None:
    """Prints what was sent and what is still missing."""
    from mlaudit.verify.repair.coverage import REASONS

    report, left = recovery.to_json(), recovery.left
    places = ", ".join(f"{count:,} from the {place}" for place, count in report["from"].items())
    verb = "would be sent" if report["dry_run"] else "sent"
    console.print(f"{report['sent']:,} records {verb}{f' ({places})' if places else ''}")
    if report["waiting_in_spool"]:
        console.print(f"{report['waiting_in_spool']:,} wait in the spool: {REASONS['spool']}", markup=False)
    for text in report["refusals"][:_SHOWN]:
        console.print(Text(f"NOT SENT {safe(text)}", style="bold red"))
    if report["refused"] > _SHOWN:
        console.print(f"[red]and {report['refused'] - _SHOWN:,} more that do not fit[/] (--json lists them)")
    for text in report["undelivered"][:_SHOWN]:
        console.print(Text(f"NOT TAKEN by the collector: {safe(text)}", style="bold red"))
    for (name, reason), ranges in sorted(left.items())[:_SHOWN]:
        why = REASONS.get(
            reason, "sent, and Elasticsearch still does not have it: see its answers in the collector's log"
        )
        console.print(
            Text(safe(f"stream {name}: {ranges.count:,} missing ({ranges.text()}): {why}"), style="yellow")
        )
    if report["dry_run"]:
        return
    if not recovery.checked:
        console.print("whether they are stored was not checked; name the cluster with --elasticsearch")
    elif report["ok"]:
        console.print("[bold green]STORED[/] nothing that was promised and sent is missing")
    else:
        missing = sum(ranges.count for ranges in left.values())
        console.print(
            f"[bold red]NOT WHOLE[/] {missing:,} records are still missing, {report['refused']:,} do not fit"
        )
