"""The stack's collector with other parameters, for the time of a cell; a small disk to run it on."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fault.matrix.emitting import CellError

from mlaudit.stack import Stack, process
from mlaudit.stack.collector_build import config_dir
from mlaudit.stack.collector_process import Collector


@dataclass(frozen=True)
class Varied(Collector):
    """A collector with other values of its variables."""

    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """See ``Collector.environment``."""
        return {**Collector.environment(self), **self.variables}


@contextlib.contextmanager
def varied_collector(
    stack: Stack, variables: Mapping[str, str] | None = None, **attributes: Any
) -> Iterator[None]:
    """Runs the stack's collector with other attributes (see ``Collector``) and variables; afterwards as it was."""
    usual = stack._running_collector[0]
    given = {one.name: getattr(usual, one.name) for one in dataclasses.fields(Collector)}
    varied = Varied(**{**given, **attributes}, variables=variables or {})
    for name in varied._config_files():
        stack.layout.write(stack.layout.collector / name, (config_dir() / name).read_text())
    try:
        _exchange(stack, varied)
        yield
    finally:
        _exchange(stack, usual)


def _exchange(stack: Stack, collector: Collector) -> None:
    """Kills the running collector and starts this one in its place."""
    started = stack._running_collector[1]
    process.kill(started)
    stack._collector = (collector, started)
    stack.restart_collector()


@contextlib.contextmanager
def small_disk(stack: Stack, folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes that belongs to the collector's user.

    Raises:
        CellError: it cannot be mounted.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CellError(f"expected to mount a small file system (needs root), found: {done.stderr.strip()}")
    try:
        stack.layout.hand_over(folder, 0o700)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def enlarge(disk: Path, size: int) -> None:
    """Gives a small disk more bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
