"""An audited process of a cell, seen from outside: how far it has come, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.fault.matrix.workload import LINE, LOST, REFUSED

ROOT = Path(__file__).resolve().parents[3]


class CellError(Exception):
    """A cell could not inject its fault, or what it waited for did not happen."""


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0, pause: float = 0.02) -> float:
    """Returns how long it took until the condition held.

    Raises:
        CellError: it did not within ``seconds``.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise CellError(f"expected within {seconds:.0f} s: {what}")
        time.sleep(pause)
    return time.monotonic() - began


class Notebook:
    """The file in which audited processes write down what their calls returned."""

    def __init__(self, path: Path, check: Callable[[], object] = lambda: None) -> None:
        """``check`` raises CellError when waiting has become pointless."""
        self.path = path
        self._check = check

    def count(self) -> int:
        """Calls that have returned."""
        try:
            return self.path.stat().st_size // LINE
        except FileNotFoundError:
            return 0

    def lines(self) -> list[str]:
        """What each call returned."""
        return self.path.read_text().split("\n")[:-1] if self.path.exists() else []

    def acknowledged(self) -> set[str]:
        """The ids of the records whose calls have returned with the promise kept."""
        return set(self.lines()) - {LOST, REFUSED}

    def lost(self) -> int:
        """Calls that said that their record was not stored."""
        return self.lines().count(LOST)

    def refused(self) -> int:
        """Calls that were refused because no record could be stored."""
        return self.lines().count(REFUSED)

    def wait_for(self, count: int, seconds: float = 180.0) -> float:
        """Until so many calls have returned; seconds that it took."""

        def there() -> bool:
            if self.count() >= count:
                return True
            try:
                self._check()
            except CellError:
                if self.count() < count:  # otherwise it has done its work and ended in between
                    raise
            return self.count() >= count

        return wait_for(there, f"{count} returned calls", seconds)


class Audited:
    """A started process, leader of its own group."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL to this process alone."""
        self.send(signal.SIGKILL)
        self.process.wait(30)

    def kill_group(self) -> None:
        """SIGKILL to this process and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(30)

    def terminate(self, seconds: float = 60.0) -> int:
        """SIGTERM, and the exit code."""
        self.send(signal.SIGTERM)
        return self.finish(seconds)

    def finish(self, seconds: float = 300.0) -> int:
        """Waits for the end; the exit code.

        Raises:
            CellError: it does not end.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CellError(
                f"expected the process to end within {seconds:.0f} s; its log:\n{self.tail()}"
            ) from None

    def send(self, number: int) -> None:
        """A signal, unless it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def tail(self, lines: int = 20) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
