"""``mlaudit verify``, behind the command line."""

from __future__ import annotations

import gc
import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mlaudit.errors import MlauditError
from mlaudit.safety.printable import safe_lines
from mlaudit.verify.sources.open_source import one_source
from mlaudit.verify.sources.source import parse_moment
from mlaudit.verify.trust import known_checkpoints, trusted_keys
from mlaudit.verify.verification import verify_source

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HOLDS = 0
FINDINGS = 1
COULD_NOT_LOOK = 2


def verify(
    path: Path | None,
    *,
    elasticsearch: str | None,
    since: str,
    until: str,
    stream: str,
    keys: Path | None,
    unsigned: bool,
    follow_rotations: bool,
    checkpoints: Iterable[Path],
    tsa_ca: Path | None,
    namespace: str,
    ca_file: Path | None,
    settle: float,
    as_json: bool,
) -> int:
    """Verifies a source, prints the report, and returns the exit code."""
    # Millions of small records without cycles: the collector of cycles would look at them again and again.
    gc.set_threshold(1_000_000, 50, 50)
    console = Console(stderr=True)
    try:
        trusted = None if unsigned else trusted_keys(keys, follow_rotations=follow_rotations)
        known = known_checkpoints(checkpoints, trusted, tsa_ca)
        source = one_source(path, elasticsearch, namespace, ca_file)
        window: dict[str, Any] = {
            "since": parse_moment(since) if since else "",
            "until": parse_moment(until) if until else "",
            "stream": stream,
        }
        if as_json or not console.is_terminal:
            report = verify_source(source, trusted, **window, checkpoints=known.checkpoints, settle=settle)
        else:
            with console.status("reading …") as status:
                report = verify_source(
                    source,
                    trusted,
                    **window,
                    checkpoints=known.checkpoints,
                    settle=settle,
                    progress=lambda count: status.update(f"{count:,} records read"),
                )
        report.add_known(known.findings, known.times, known.not_checked)
    except MlauditError as error:
        if as_json:
            _write_json({"ok": False, "records": 0, "streams": [], "findings": [], "error": str(error)})
        console.print(
            f"mlaudit verify: could not check: {safe_lines(str(error))}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return COULD_NOT_LOOK
    if as_json:
        _write_json(report.to_json())
    else:
        report.print(Console(highlight=False))
    return HOLDS if report.ok else FINDINGS


def _write_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")
