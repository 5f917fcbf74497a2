"""Runs every example over the whole path: program, collector, Elasticsearch, verification. ``make examples``.

Writes ``summary.json`` into ``build/examples``, or into the folder given: for each example the kinds of event that
it recorded, as stored in Elasticsearch. Fails when a kind is missing, a record is not stored, or the proof fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch
from rich.console import Console
from rich.table import Table

from examples.plays import EXAMPLES_TO_PLAY, Example, Play
from examples.programs import is_complete, sealed_records
from mlaudit.cluster.client import connect
from mlaudit.detect.compiled_rule import INDEX
from mlaudit.stack.local_stack import Stack

STORED_SECONDS = 60.0
LIFE = frozenset({"audit.service.started", "audit.service.stopped"})
console = Console(highlight=False, soft_wrap=True, width=max(140, Console().width))


def main() -> int:
    """0 when every example recorded the expected kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/examples"))
    parser.add_argument("--only", help="names of examples, joined by commas")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else [one.name for one in EXAMPLES_TO_PLAY]
    folder = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    examples: dict[str, Any] = {}
    archive = folder / "archive.jsonl"
    with (
        Stack(folder / "stack", fresh=True, quick=True, archive=archive, report=console.print) as stack,
        connect(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file) as client,
    ):
        for example in EXAMPLES_TO_PLAY:
            if example.name in wanted:
                console.print(f"{example.name}: {example.about}")
                row = perform(example, folder / example.name, stack, client, archive)
                examples[example.name] = row
                console.print(f"  {row['records']} records, {row['seconds']} s. {row['fault']}")
        report = verify(folder / "state", stack)
    _show(examples)
    records = sum(row["records"] for row in examples.values())
    proven = bool(report["ok"]) and report["records"] == records
    proof = {name: report[name] for name in ("ok", "records", "findings")}
    summary = {"examples": examples, "records": records, "verify": proof}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(
        f"verify: {report['records']} of {records} records {'proven' if proven else report['findings']}"
    )
    console.print(f"summary: {folder / 'summary.json'}")
    return int(not proven or any(row["fault"] for row in examples.values()))


def perform(
    example: Example, folder: Path, stack: Stack, client: Elasticsearch, archive: Path
) -> dict[str, Any]:
    """Plays one example; returns its result, with an empty ``fault`` on success."""
    begun = time.monotonic()
    folder.mkdir(parents=True)
    play = Play(folder, folder.parent / "state", stack, f"example-{example.name}")
    example.play(play)
    deadline = time.monotonic() + STORED_SECONDS
    while True:
        sealed = {
            key: record
            for key, record in sealed_records(archive).items()
            if record["service.name"] == play.service
        }
        kinds = _stored(client, play.service)
        complete = is_complete(sealed) and sum(kinds.values()) >= len(sealed)
        if complete or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    row: dict[str, Any] = {"about": example.about, "service": play.service, "records": sum(kinds.values())}
    row |= {"kinds": dict(sorted(kinds.items())), "seconds": round(time.monotonic() - begun, 1)}
    return row | {"fault": _fault(example, kinds, len(sealed), complete)}


def verify(state: Path, stack: Stack) -> dict[str, Any]:
    """The result of ``mlaudit verify`` over all of Elasticsearch, with the key of the examples."""
    user, password = stack.reader_auth
    environment = {
        "MLAUDIT_ES_USERNAME": user,
        "MLAUDIT_ES_PASSWORD": password,
        "MLAUDIT_STATE_DIR": str(state),
        "PATH": os.defpath,
    }
    trust = ["--ca-file", str(stack.ca_file)] if stack.ca_file else []
    command = [
        str(Path(sys.executable).with_name("mlaudit")), "verify",
        "--elasticsearch", stack.elasticsearch_url, *trust, "--json",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"mlaudit verify gave no JSON:\n{done.stdout}{done.stderr}") from None
    return report


def _stored(client: Elasticsearch, service: str) -> Counter[str]:
    client.indices.refresh(index=INDEX)
    answer = client.search(
        index=INDEX,
        size=0,
        query={"term": {"service.name": service}},
        aggs={"kinds": {"terms": {"field": "audit.kind", "size": 200}}},
    )
    buckets = answer["aggregations"]["kinds"]["buckets"]
    return Counter({bucket["key"]: bucket["doc_count"] for bucket in buckets})


def _fault(example: Example, kinds: Counter[str], sealed: int, complete: bool) -> str:
    if missing := (example.kinds | LIFE) - set(kinds):
        return f"no event of kind {', '.join(sorted(missing))}"
    if "audit.pipeline.failure" in kinds:
        return f"auditing failed {kinds['audit.pipeline.failure']} times"
    if not complete:
        return f"{sealed} records sealed, {sum(kinds.values())} stored, or a stream without its end"
    return ""


def _show(examples: dict[str, Any]) -> None:
    names = list(examples)
    table = Table(title="Events of each example, as stored in Elasticsearch")
    table.add_column("kind", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for kind in sorted({kind for row in examples.values() for kind in row["kinds"]}):
        table.add_row(kind, *(str(examples[name]["kinds"].get(kind, "")) for name in names))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
