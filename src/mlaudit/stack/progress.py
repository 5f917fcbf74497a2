"""Long steps (a download, a compilation) with visible progress."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING, Final

from mlaudit.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlaudit.stack.cache import Report

_EVERY_SECONDS: Final = 5.0


def run(
    label: str,
    command: Sequence[str],
    *,
    log: Path,
    report: Report,
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
) -> None:
    """Run ``command`` with its output in ``log``; report the time spent and the last line every 5 seconds.

    Raises:
        StackError: it failed or took longer than ``seconds``; with the last lines of the log.
    """
    report(label)
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
        )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_EVERY_SECONDS)
                    break
                spent = time.monotonic() - began
                if spent > seconds:
                    raise StackError(f"{label}: not done after {spent:.0f} s{_tail(log, 15)}")
                report(f"{label}, {spent:.0f} s: {_tail(log, 1).strip()[:100]}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise StackError(f"{label}: failed with exit code {process.returncode}{_tail(log, 15)}")


def _tail(log: Path, count: int) -> str:
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n" + "\n".join(lines)
