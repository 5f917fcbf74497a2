"""The text of ``mlaudit verify --coverage`` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from mlaudit.cli import output
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.verify.repair.measure import Coverage

_SHOWN: Final = 20


def print_coverage(coverage: Coverage, console: Console) -> None:
    """Prints the coverage for a person."""
    from mlaudit.verify.repair.coverage import REASONS

    found = coverage.found
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stream", no_wrap=True)
    for header in ("signed up to", "stored", "missing"):
        table.add_column(header, justify="right")
    table.add_column("stored by class")
    shown = sorted(found, key=lambda stream: (not stream.absent, stream.stream_id))[:_SHOWN]
    for stream in shown:
        classes = ", ".join(f"{name} {count:,}" for name, count in sorted(stream.classes.items()))
        table.add_row(
            Text(safe(stream.stream_id)),
            f"{stream.signed:,}",
            f"{stream.stored.count:,}",
            f"{stream.absent.count:,}",
            Text(classes),
        )
    output.print_table(console, table)
    if len(found) > _SHOWN:
        console.print(f"and {len(found) - _SHOWN:,} more streams (--json lists them)")
    for stream in shown:
        if stream.contradicted:
            text = f"stream {stream.stream_id}: record {stream.signed} is stored with another hash; run mlaudit verify"
            console.print(Text(safe(text), style="bold red"))
        for reason, ranges in stream.missing.items():
            text = f"stream {stream.stream_id}: {ranges.count:,} missing ({ranges.text()}): {REASONS[reason]}"
            console.print(Text(safe(text), style="yellow"))
    missing, signed = coverage.missing, coverage.signed
    if coverage.ok:
        console.print(
            f"[bold green]COVERED[/] {signed:,} signed records in {len(found):,} streams are all stored"
        )
    else:
        console.print(
            f"[bold red]NOT COVERED[/] {missing:,} of {signed:,} signed records in {len(found):,} streams are missing"
        )
