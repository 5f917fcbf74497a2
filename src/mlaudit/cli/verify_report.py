"""The text of ``mlaudit verify`` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlaudit.cli import output
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.verify.report import Report

_SHOWN_FINDINGS: Final = 50
_SHOWN_STREAMS: Final = 20
_SHOWN_NOT_CHECKED: Final = 10


def print_report(report: Report, console: Console) -> None:
    """Prints the report for a person; content of records is escaped."""
    if not report.signatures:
        console.print(
            "[bold yellow]SIGNATURES WERE NOT CHECKED[/] (--unsigned): anybody who can write here could have computed "
            "the whole chain again, and this report would not show it."
        )
    _print_findings(report, console)
    _print_streams(report, console)
    for sentence in report.not_checked[:_SHOWN_NOT_CHECKED]:
        console.print(Text(f"not checked: {safe(sentence)}", style="yellow"))
    if len(report.not_checked) > _SHOWN_NOT_CHECKED:
        console.print(
            f"[yellow]and {len(report.not_checked) - _SHOWN_NOT_CHECKED} more that was not checked (--json)[/]"
        )
    for proven in report.times[-_SHOWN_STREAMS:]:
        text = f"stream {proven['stream_id']}: record {proven['sequence']:,} existed at {proven['time']}"
        console.print(safe(f"{text} (time-stamp)"), markup=False, style="green")
    _print_verdict(report, console)


def _print_verdict(report: Report, console: Console) -> None:
    if report.unsealed:
        console.print(
            f"[yellow]not proven: {report.unsealed:,} documents of hosts and clusters, which the collector made "
            "and no process sealed[/] (mlaudit.unsealed)"
        )
    broken = sum(found.severity == "finding" for found in report.findings) + report.suppressed
    what = f"{report.records:,} records in {len(report.streams):,} streams of {escape(safe(report.source))}"
    rate = (
        f"{report.seconds:.1f} s, {report.records / report.seconds:,.0f} records/s" if report.seconds else ""
    )
    if broken:
        console.print(f"[bold red]DOES NOT HOLD[/] {broken:,} findings in {what} ({rate})")
        return
    signed = "all signatures good" if report.signatures else "signatures not checked"
    console.print(f"[bold green]HOLDS[/] {what}: every hash, every link, {signed} ({rate})")


def _print_findings(report: Report, console: Console) -> None:
    shown = sorted(report.findings, key=lambda found: found.severity != "finding")
    for found in shown[:_SHOWN_FINDINGS]:
        style = "bold red" if found.severity == "finding" else "cyan"
        place = f" stream {found.stream_id}" if found.stream_id else ""
        if found.sequence:
            place += f" record {found.sequence}"
            place += f" to {found.through}" if found.through > found.sequence else ""
        console.print(Text.assemble((found.code, style), safe(f"{place}: {found.text}")))
        details = {
            "expected": found.expected,
            "found": found.found,
            "id": found.record_id,
            "at": found.where,
        }
        for name, value in details.items():
            if value:
                console.print(Text(f"    {name:<8} {output.cut(safe(value))}", style="dim"))
    hidden = len(report.findings) - _SHOWN_FINDINGS + report.suppressed
    if hidden > 0:
        console.print(f"[red]and {hidden:,} more[/] (--json lists them)")


def _print_streams(report: Report, console: Console) -> None:
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for header in ("stream", "service", "state", "records", "sequence", "signed up to", "not signed"):
        table.add_column(
            header,
            justify="left" if header in {"stream", "service", "state"} else "right",
            no_wrap=header in {"stream", "service"},
        )
    for stream in report.streams[-_SHOWN_STREAMS:]:
        table.add_row(
            Text(safe(stream.stream_id)),
            Text(safe(stream.service or "?")),
            stream.state,
            f"{stream.records:,}",
            f"{stream.first:,}-{stream.last:,}",
            f"{stream.last_signed:,}" if report.signatures else "?",
            f"{stream.unsigned:,}" if report.signatures else "?",
        )
    if report.streams:
        output.print_table(console, table)
    if len(report.streams) > _SHOWN_STREAMS:
        console.print(f"and {len(report.streams) - _SHOWN_STREAMS:,} older streams (--json lists them)")
    waiting = [stream for stream in report.streams if stream.state == "open" and stream.unsigned]
    if waiting and report.signatures:
        count = sum(stream.unsigned for stream in waiting)
        console.print(f"{count:,} records of {len(waiting):,} open streams wait for their next signature")
