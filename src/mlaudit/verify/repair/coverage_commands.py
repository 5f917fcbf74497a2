"""``mlaudit verify --coverage``, behind the command line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlaudit.errors import MlauditError, SourceError
from mlaudit.safety.printable import safe
from mlaudit.settings import Settings
from mlaudit.verify.export import newest_checkpoints
from mlaudit.verify.repair.coverage import REASONS, Local, StreamCoverage, check_promises, cover, promised
from mlaudit.verify.sources.open_source import archive_files, cluster, local_sources
from mlaudit.verify.sources.source import parse_moment
from mlaudit.verify.trust import known_checkpoints, trusted_keys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlaudit.verify.sources.cluster_source import ElasticsearchSource

_SHOWN = 20


def measure(
    elasticsearch: str | None,
    *,
    namespace: str,
    ca_file: Path | None,
    keys: Path | None,
    follow_rotations: bool,
    checkpoints: Iterable[Path],
    archives: Iterable[Path],
    stream: str,
    since: str,
    settle: float,
) -> tuple[dict[str, StreamCoverage], ElasticsearchSource, Local]:
    """The coverage of every promised stream, with the cluster and the places that were looked at.

    Raises:
        SourceError, KeyFileError: it could not check, or nothing is promised.
    """
    if elasticsearch is None:
        raise SourceError(
            "expected --elasticsearch URL: coverage compares signatures with what is stored there"
        )
    trusted = trusted_keys(keys, follow_rotations=follow_rotations)
    known = known_checkpoints(checkpoints, trusted)
    settings = Settings.from_env()
    source = cluster(elasticsearch, namespace, ca_file)
    local = Local(settings.spool_dir, [file for path in archives for file in archive_files(path)])
    newest = newest_checkpoints([source, *local_sources(settings.spool_dir)], trusted, stream)
    if newest.conflicts:
        raise SourceError("; ".join(newest.conflicts))
    moment = parse_moment(since) if since else ""
    streams = promised(newest, known.checkpoints, stream, moment)
    check_promises(streams, stream)
    cover(streams, source, local, settle)
    return streams, source, local


def coverage(elasticsearch: str | None, *, as_json: bool, **options: Any) -> int:
    """Prints the coverage; exit code 0 when everything promised is stored, 1 when not, 2 when it could not check."""
    try:
        streams, source, _ = measure(elasticsearch, **options)
        source.close()
    except MlauditError as error:
        if as_json:
            _write({"ok": False, "streams": [], "error": str(error)})
        Console(stderr=True).print(
            f"mlaudit verify: could not check: {safe(str(error))}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 2
    found = [streams[name] for name in sorted(streams)]
    ok = not any(stream.absent or stream.contradicted for stream in found)
    if as_json:
        _write(
            {
                "ok": ok,
                "signed": sum(stream.signed for stream in found),
                "stored": sum(stream.stored.count for stream in found),
                "missing": sum(stream.absent.count for stream in found),
                "streams": [stream.to_dict() for stream in found],
                "reasons": REASONS,
            }
        )
    else:
        _print(found, Console(highlight=False), ok=ok)
    return 0 if ok else 1


def _write(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def _print(found: list[StreamCoverage], console: Console, *, ok: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stream", overflow="fold")
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
    console.print(table)
    if len(found) > _SHOWN:
        console.print(f"and {len(found) - _SHOWN:,} more streams (--json lists them)")
    for stream in shown:
        if stream.contradicted:
            text = f"stream {stream.stream_id}: record {stream.signed} is stored with another hash; run mlaudit verify"
            console.print(Text(safe(text), style="bold red"))
        for reason, ranges in stream.missing.items():
            text = f"stream {stream.stream_id}: {ranges.count:,} missing ({ranges.text()}): {REASONS[reason]}"
            console.print(Text(safe(text), style="yellow"))
    missing = sum(stream.absent.count for stream in found)
    signed = sum(stream.signed for stream in found)
    if ok:
        console.print(
            f"[bold green]COVERED[/] {signed:,} signed records in {len(found):,} streams are all stored"
        )
    else:
        console.print(
            f"[bold red]NOT COVERED[/] {missing:,} of {signed:,} signed records in {len(found):,} streams are missing"
        )
