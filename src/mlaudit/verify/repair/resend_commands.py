"""``mlaudit resend``, behind the command line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from mlaudit.deliver.send.transport import HttpTransport
from mlaudit.errors import MlauditError, SourceError
from mlaudit.pipeline.backend import receiver
from mlaudit.safety.printable import safe
from mlaudit.settings import Settings
from mlaudit.verify.repair.coverage import REASONS, REFUSED, UNKNOWN, Local
from mlaudit.verify.repair.coverage_commands import measure
from mlaudit.verify.repair.resend import Resend, find_anchors, wait_until_stored
from mlaudit.verify.sources.open_source import archive_files, cluster

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlaudit.verify.repair.coverage import StreamCoverage
    from mlaudit.verify.repair.ranges import Ranges
    from mlaudit.verify.repair.resend import Outcome
    from mlaudit.verify.sources.cluster_source import ElasticsearchSource

_SHOWN = 20


def resend(
    elasticsearch: str | None,
    *,
    everything: bool,
    dry_run: bool,
    stream: str,
    archives: Iterable[Path],
    wait: float,
    as_json: bool,
    namespace: str,
    ca_file: Path | None,
    **options: Any,
) -> int:
    """Sends what is missing, or everything; 0 when it is all stored, 1 when some is missing, 2 if it cannot look."""
    archives = list(archives)
    try:
        if everything:
            settings = Settings.from_env()
            source = cluster(elasticsearch, namespace, ca_file) if elasticsearch else None
            local = Local(settings.spool_dir, [file for path in archives for file in archive_files(path)])
            streams: dict[str, StreamCoverage] = {}
        else:
            if elasticsearch is None:
                raise SourceError(
                    "expected --elasticsearch URL, to send what is missing there, or --all to send everything"
                )
            streams, source, local = measure(
                elasticsearch,
                namespace=namespace,
                ca_file=ca_file,
                archives=archives,
                stream=stream,
                since="",
                settle=1.0,
                **options,
            )
        outcome, left = _work(
            streams, source, local, stream, everything=everything, dry_run=dry_run, wait=wait
        )
    except MlauditError as error:
        if as_json:
            _write({"ok": False, "error": str(error)})
        Console(stderr=True).print(
            f"mlaudit resend: could not check: {safe(str(error))}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 2
    ok = not (left or outcome.refused_count or outcome.undelivered or outcome.waiting)
    report = {
        "ok": ok,
        "dry_run": dry_run,
        "sent": outcome.count,
        "from": dict(sorted(outcome.by_place.items())),
        "waiting_in_spool": outcome.waiting,
        "refused": outcome.refused_count,
        "refusals": outcome.refused,
        "undelivered": outcome.undelivered,
        "stored": None if source is None or dry_run else outcome.count - _in_sent(left, outcome),
        "missing": [
            {"stream_id": name, "reason": reason, "first": first, "last": last}
            for (name, reason), ranges in sorted(left.items())
            for first, last in ranges
        ],
    }
    if as_json:
        _write(report)
    else:
        _print(report, left, Console(highlight=False), looked=source is not None)
    return 0 if ok else 1


def _work(
    streams: dict[str, StreamCoverage],
    source: ElasticsearchSource | None,
    local: Local,
    stream: str,
    *,
    everything: bool,
    dry_run: bool,
    wait: float,
) -> tuple[Outcome, dict[tuple[str, str], Ranges]]:
    """Sends, waits, and says what is still missing, by stream and reason."""
    absent = {name: found.absent for name, found in streams.items() if found.absent}
    hopeless = {name: found.missing.get(REFUSED, ()) for name, found in streams.items()}

    def wanted(name: str, sequence: int) -> bool:
        if everything:
            return not stream or name == stream
        return name in absent and sequence in absent[name] and sequence not in hopeless[name]

    left: dict[tuple[str, str], Ranges] = {}
    for name, found in streams.items():
        for reason in (REFUSED, UNKNOWN):
            if reason in found.missing:
                left[name, reason] = found.missing[reason]
    anchors = None
    if absent and source is not None:
        anchors = find_anchors({name: streams[name] for name in absent}, source)
    transport = HttpTransport(receiver(Settings.from_env()))
    try:
        outcome = Resend(transport, anchors, dry_run=dry_run).run(local.originals(wanted))
    finally:
        transport.close()
    if source is not None and not dry_run:
        for name, ranges in wait_until_stored(outcome.sent, source, wait).items():
            left[name, "not stored"] = ranges
    return outcome, left


def _in_sent(left: dict[tuple[str, str], Ranges], outcome: Outcome) -> int:
    return sum(ranges.count for (_, reason), ranges in left.items() if reason == "not stored")


def _write(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def _print(
    report: dict[str, Any], left: dict[tuple[str, str], Ranges], console: Console, *, looked: bool
) -> None:
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
    if not looked:
        console.print("whether they are stored was not checked; name the cluster with --elasticsearch")
    elif report["ok"]:
        console.print("[bold green]STORED[/] nothing that was promised and sent is missing")
    else:
        missing = sum(ranges.count for ranges in left.values())
        console.print(
            f"[bold red]NOT WHOLE[/] {missing:,} records are still missing, {report['refused']:,} do not fit"
        )
