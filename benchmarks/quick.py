"""``python -m benchmarks.quick``: both benchmarks in under three minutes; see ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import record_cost, service_load
from benchmarks.machine import machine, versions
from benchmarks.processes import ROOT, ChildError, child, cores
from benchmarks.table import show

FORMAT = 1
_COLUMNS = 110  # of the widest table


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Runs the benchmarks that ``options`` ask for.

    Raises:
        ChildError: a measurement is invalid.
    """
    begin = time.monotonic()
    results: dict[str, Any] = {
        "format": FORMAT,
        "started": datetime.now(UTC).isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    output: Path = options.output
    # Next to the results, not in the temporary folder: the spool must be on a disk, as in production.
    with (
        tempfile.TemporaryDirectory(dir=output.parent, prefix="work-") as name,
        console.status("starting") as status,
        child("receiver", core=cores()[1], log=Path(name) / "receiver.log") as receiver,
    ):
        folder, port = Path(name), receiver.answer()["port"]
        if options.pairs:
            results["record_cost"] = record_cost.measure(
                folder, receiver, port, records=options.records, pairs=options.pairs, tell=status.update
            )
        if options.rounds:
            results["service_load"] = service_load.measure(
                folder,
                receiver,
                port,
                rounds=options.rounds,
                seconds=options.seconds,
                variants=options.variants,
                routes=options.routes,
                tell=status.update,
            )
    results["goals"] = goals(results)
    results["machine"]["load_average_after"] = machine()["load_average"]
    results["seconds"] = time.monotonic() - begin
    return results


def goals(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The design's goals for these figures, and whether the medians meet them."""
    found = []
    if cost := results.get("record_cost"):
        ratio = cost["ratio"]
        found.append(
            {
                "name": "CPU per record, mlaudit / SDK",
                "relation": "at most",
                "wanted": record_cost.GOAL,
                "found": ratio,
                "met": ratio["median"] <= record_cost.GOAL,
            }
        )
    noop = results.get("service_load", {}).get("routes", {}).get("noop", {})
    if versus_plain := noop.get("ratios", {}).get("audited/plain"):
        ratio = versus_plain["requests_per_second"]
        found.append(
            {
                "name": "no-op route, requests per second, audited / plain",
                "relation": "at least",
                "wanted": service_load.GOAL,
                "found": ratio,
                "met": ratio["median"] >= service_load.GOAL,
            }
        )
    return found


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; its defaults are what ``make bench-quick`` runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "results.json")
    parser.add_argument("--records", type=int, default=10_000, help="records per round and way")
    parser.add_argument(
        "--pairs", type=int, default=7, help="rounds of each way; 0 leaves this benchmark out"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of load; 0 leaves this benchmark out")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a round of load")
    parser.add_argument(
        "--variants", nargs="+", choices=service_load.VARIANTS, default=list(service_load.VARIANTS)
    )
    parser.add_argument(
        "--routes", nargs="+", choices=list(service_load.ROUTES), default=list(service_load.ROUTES)
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; 1 when a measurement is invalid. A missed goal is not a failure."""
    options = read_options(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.width = max(console.width, _COLUMNS)
    try:
        results = measure(options, console)
    except ChildError as error:
        console.print("no measurement:", style="red")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return 1
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    show(results, console)
    console.print(f"{results['seconds']:.0f} s, every round in {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
