"""The result of a verification: as JSON for programs, as text for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from rich.console import Console

    from mlaudit.verify.proof.finding_codes import Finding
    from mlaudit.verify.proof.summary import StreamSummary

_SHOWN_FINDINGS: Final = 50
_SHOWN_STREAMS: Final = 20
_SHOWN_NOT_CHECKED: Final = 10
_SHOWN_VALUE: Final = 120


@dataclass(slots=True)
class Report:
    """What was checked and what was found.

    Attributes:
        source: name of the source.
        records: how many records were read.
        unsealed: number of documents that the collector made itself; they belong to no stream and are not proven.
        findings: all findings, including those for information only.
        suppressed: findings beyond the limit of one stream, counted but not kept.
        not_checked: what was not checked, as sentences.
        keys: the trusted verifier keys.
        signatures: False when signatures were not checked.
        window: ``since``, ``until`` and ``stream`` as requested.
        times: what time-stamps prove: file, stream, sequence and time of each.
    """

    source: str
    records: int
    streams: list[StreamSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    suppressed: int = 0
    not_checked: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    signatures: bool = True
    window: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    times: list[dict[str, str | int]] = field(default_factory=list)
    unsealed: int = 0

    def add_known(
        self, findings: list[Finding], times: list[dict[str, str | int]], not_checked: list[str]
    ) -> None:
        """Adds the findings about checkpoints from outside the source."""
        self.findings.extend(findings)
        self.times.extend(times)
        self.not_checked.extend(not_checked)

    @property
    def ok(self) -> bool:
        """Whether everything that was checked holds."""
        return not self.suppressed and all(found.severity == "information" for found in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "ok": self.ok,
            "source": self.source,
            "records": self.records,
            "unsealed": self.unsealed,
            "streams": [stream.to_dict() for stream in self.streams],
            "findings": [found.to_dict() for found in self.findings],
            "counts": dict(sorted(Counter(found.code for found in self.findings).items())),
            "suppressed": self.suppressed,
            "not_checked": self.not_checked,
            "signatures": "checked" if self.signatures else "not checked",
            "keys": self.keys,
            "window": self.window,
            "times": self.times,
            "seconds": round(self.seconds, 3),
        }

    def print(self, console: Console) -> None:
        """Prints the report for a person; content of records is escaped."""
        if not self.signatures:
            console.print(
                "[bold yellow]SIGNATURES WERE NOT CHECKED[/] (--unsigned): whoever can write here could have computed "
                "the whole chain again, and this report would not show it."
            )
        self._print_findings(console)
        self._print_streams(console)
        for sentence in self.not_checked[:_SHOWN_NOT_CHECKED]:
            console.print(Text(f"not checked: {safe(sentence)}", style="yellow"))
        if len(self.not_checked) > _SHOWN_NOT_CHECKED:
            console.print(
                f"[yellow]and {len(self.not_checked) - _SHOWN_NOT_CHECKED} more that was not checked (--json)[/]"
            )
        for proven in self.times[-_SHOWN_STREAMS:]:
            text = f"stream {proven['stream_id']}: record {proven['sequence']:,} existed at {proven['time']}"
            console.print(safe(f"{text} (time-stamp)"), markup=False, style="green")
        self._print_verdict(console)

    def _print_verdict(self, console: Console) -> None:
        if self.unsealed:
            console.print(
                f"[yellow]not proven: {self.unsealed:,} documents of hosts and clusters, which the collector made "
                "and no process sealed[/] (mlaudit.unsealed)"
            )
        broken = sum(found.severity == "finding" for found in self.findings) + self.suppressed
        what = f"{self.records:,} records in {len(self.streams):,} streams of {escape(safe(self.source))}"
        rate = f"{self.seconds:.1f} s, {self.records / self.seconds:,.0f} records/s" if self.seconds else ""
        if broken:
            console.print(f"[bold red]DOES NOT HOLD[/] {broken:,} findings in {what} ({rate})")
            return
        signed = "all signatures good" if self.signatures else "signatures not checked"
        console.print(f"[bold green]HOLDS[/] {what}: every hash, every link, {signed} ({rate})")

    def _print_findings(self, console: Console) -> None:
        shown = sorted(self.findings, key=lambda found: found.severity != "finding")
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
                    console.print(Text(f"    {name:<8} {cut(safe(value))}", style="dim"))
        hidden = len(self.findings) - _SHOWN_FINDINGS + self.suppressed
        if hidden > 0:
            console.print(f"[red]and {hidden:,} more[/] (--json lists them)")

    def _print_streams(self, console: Console) -> None:
        table = Table(title=None, box=None, pad_edge=False, header_style="bold")
        for header in ("stream", "service", "state", "records", "sequence", "signed up to", "not signed"):
            table.add_column(header, justify="left" if header in {"stream", "service", "state"} else "right")
        for stream in self.streams[-_SHOWN_STREAMS:]:
            table.add_row(
                Text(safe(stream.stream_id), overflow="fold"),
                Text(safe(stream.service or "?")),
                stream.state,
                f"{stream.records:,}",
                f"{stream.first:,}-{stream.last:,}",
                f"{stream.last_signed:,}" if self.signatures else "?",
                f"{stream.unsigned:,}" if self.signatures else "?",
            )
        if self.streams:
            console.print(table)
        if len(self.streams) > _SHOWN_STREAMS:
            console.print(f"and {len(self.streams) - _SHOWN_STREAMS:,} older streams (--json lists them)")
        waiting = [stream for stream in self.streams if stream.state == "open" and stream.unsigned]
        if waiting and self.signatures:
            count = sum(stream.unsigned for stream in waiting)
            console.print(f"{count:,} records of {len(waiting):,} open streams wait for their next signature")


def cut(text: str) -> str:
    """The text, cut to what fits a line or two."""
    return text if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}…"
