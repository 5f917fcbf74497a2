"""The results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def show(results: Mapping[str, Any], console: Console) -> None:
    """Prints one table per benchmark, and the goals."""
    if cost := results.get("record_cost"):
        console.print(_cost(cost))
    if load := results.get("service_load"):
        for route, found in load["routes"].items():
            console.print(_load(route, found))
    goals = Table("goal", "wanted", "found (median)", "range", "", title="Goals", title_justify="left")
    for goal in results["goals"]:
        found = goal["found"]
        goals.add_row(
            goal["name"],
            f"{goal['relation']} {goal['wanted']}",
            f"{found['median']:.3f}",
            f"{found['min']:.3f} to {found['max']:.3f}",
            "[green]met[/]" if goal["met"] else "[red]not met[/]",
        )
    console.print(goals)


def _cost(cost: Mapping[str, Any]) -> Table:
    table = Table("way", "CPU us/record", "range", "to acknowledged", title_justify="left")
    table.title = "CPU of the emitting process per record, from emit to acknowledged"
    for way, medians in cost["medians"].items():
        raw = [one[way]["cpu_us_per_record"] for one in cost["rounds"]]
        table.add_row(
            way,
            f"{medians['cpu_us_per_record']:.1f}",
            f"{min(raw):.1f} to {max(raw):.1f}",
            f"{medians['acknowledged_seconds']:.2f} s",
        )
    return table


def _load(route: str, found: Mapping[str, Any]) -> Table:
    table = Table("variant", "requests/s", "range", "of plain", "range", "server CPU us", "p50 ms", "p99 ms")
    table.title, table.title_justify = f"FastAPI under load: {route}", "left"
    for variant, medians in found["medians"].items():
        raw = [one[variant]["requests_per_second"] for one in found["rounds"]]
        ratio = found["ratios"].get(f"{variant}/plain", {}).get("requests_per_second")
        table.add_row(
            variant,
            f"{medians['requests_per_second']:.0f}",
            f"{min(raw):.0f} to {max(raw):.0f}",
            f"{ratio['median']:.2f}" if ratio else "",
            f"{ratio['min']:.2f} to {ratio['max']:.2f}" if ratio else "",
            f"{medians['server_cpu_us_per_request']:.0f}",
            f"{medians['p50_ms']:.2f}",
            f"{medians['p99_ms']:.2f}",
        )
    return table
