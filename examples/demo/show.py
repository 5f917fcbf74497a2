"""Prints the results of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

STORY = (
    ("who", ("audit.actor.id", "user.roles", "audit.actor.method", "source.ip")),
    ("asked", ("http.request.method", "url.path", "http.request.body.hash.sha256")),
    ("model", ("ml.model.name", "ml.model.class", "ml.model.library_version")),
    ("artifact", ("ml.model.digest", "ml.model.registration")),
    ("inputs", ("ml.prediction.rows", "ml.prediction.features", "ml.prediction.input.digest")),
    ("output", ("ml.prediction.output.digest",)),
    ("outcome", ("event.outcome", "http.response.status_code", "event.duration")),
    ("trace", ("trace.id", "span.id")),
    ("chain", ("audit.sequence.stream_id", "audit.sequence.number", "event.hash")),
)


def kinds(console: Console, events: Mapping[str, int], stored: int) -> None:
    """Number of sealed records of each kind."""
    table = Table(title="What was recorded", title_justify="left")
    table.add_column("kind")
    table.add_column("records", justify="right")
    for kind, count in sorted(events.items()):
        table.add_row(kind, str(count))
    table.add_section()
    table.add_row("sealed", str(sum(events.values())))
    table.add_row("stored in Elasticsearch", str(stored))
    console.print(table)


def story(console: Console, record: Mapping[str, Any]) -> None:
    """One prediction, from its record."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a truncated digest proves nothing
    for title, names in STORY:
        values = [(name, record[name]) for name in names if name in record]
        for place, (name, value) in enumerate(values):
            table.add_row(f"[bold]{title}[/]" if not place else "", f"[dim]{name}[/]", escape(str(value)))
    console.print(Panel(table, title=escape(str(record["message"])), title_align="left"))


def alerts(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """The alerts of the detection rules."""
    table = Table(title="Alerts", title_justify="left")
    for column in ("level", "rule", "about", "records"):
        table.add_column(column, overflow="fold")
    for alert in found:
        about = ", ".join(f"{name}={value}" for name, value in alert["group"].items())
        table.add_row(alert["level"], escape(alert["title"]), escape(about), str(alert["count"]))
    console.print(table)


def verification(console: Console, report: Mapping[str, Any], code: int) -> None:
    """The result of ``mlaudit verify``."""
    verdict = "[green]everything holds[/]" if report["ok"] else f"[red]{len(report['findings'])} findings[/]"
    lines = [f"{report['records']} records: {verdict} (exit code {code})"]
    lines += [
        f"[red]{escape(finding['code'])}[/] {escape(finding['text'])}" for finding in report["findings"]
    ]
    console.print(Panel("\n".join(lines), title="mlaudit verify", title_align="left"))


def tampering(console: Console, altered: Mapping[str, Any], deleted: Mapping[str, Any]) -> None:
    """The demo's tampering with the store."""
    for done, hit in (("altered", altered), ("deleted", deleted)):
        source = hit["_source"]
        console.print(
            f"         {done}: record {source['audit.sequence.number']:g} of stream "
            f"{source['audit.sequence.stream_id']}: {escape(str(source['message']))}"
        )
