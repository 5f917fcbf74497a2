"""Supervision of one child process: start, wait until it is healthy, report why it is not, stop.

A process is identified by its pid and its start time, so that a reused pid is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlaudit.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that leads its own group, and when it started."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return start_time(self.pid) == self.started

    def group(self) -> list[int]:
        """The running processes of its group. While there is one, the system does not reuse the pid."""
        if sys.platform == "linux":
            members = []
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal() and (fields := _linux_status(int(entry.name))):
                    state, _parent, group = fields[:3]
                    if int(group) == self.pid and (state not in "ZX" or _has_threads(entry)):
                        members.append(int(entry.name))
            return members
        done = subprocess.run(
            ["ps", "-ax", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=False
        )
        rows = [line.split() for line in done.stdout.splitlines()]
        return [int(pid) for pid, group, state in rows if int(group) == self.pid and state[0] != "Z"]


def start_time(pid: int) -> str | None:
    """When ``pid`` started, as the system reports it; None if there is no such process or it is a zombie."""
    if sys.platform == "linux":
        fields = _linux_status(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, began = done.stdout.strip().partition(" ")
    return began.strip() if began and not state.startswith("Z") else None


def _linux_status(pid: int) -> list[str] | None:
    """The fields of ``/proc/<pid>/stat`` after the command name: state, parent, group, ..."""
    try:
        # The command name, in brackets, may itself contain blanks and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: arguments, the whole environment, log file, and the user to run as (None: ours)."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    uid: int | None = None


def start(command: Command, *, tied: bool) -> ProcessId:
    """Start it in its own session, output appended to its log.

    ``tied``: the process is killed with us, even if we are killed with SIGKILL (Linux, main thread).

    Raises:
        StackError: it could not be executed.
    """
    arguments = list(command.arguments)
    # The kernel ties a child to the thread that made it: only the main thread lasts as long as we do.
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if tied and setpriv and threading.current_thread() is threading.main_thread():
        arguments = [setpriv, "--pdeathsig", "KILL", "--", *arguments]
    command.log.parent.mkdir(parents=True, exist_ok=True)
    identity = {} if command.uid is None else {"user": command.uid, "group": command.uid, "extra_groups": []}
    with command.log.open("ab") as log:
        try:
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(command.environment),
                start_new_session=True,
                cwd="/",
                **identity,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise StackError(f"cannot start {command.name} ({arguments[0]}): {error}") from error
    # A child that ended stays a zombie until its exit status is collected.
    threading.Thread(target=child.wait, name=f"mlaudit-{command.name}", daemon=True).start()
    return ProcessId(child.pid, start_time(child.pid) or "")


def wait_until(healthy: Callable[[], bool], process: ProcessId, name: str, log: Path, seconds: float) -> None:
    """Return as soon as ``healthy()`` is true.

    Raises:
        StackError: the process ended, or the deadline passed; with the last lines of its log.
    """
    deadline = time.monotonic() + seconds
    while not healthy():
        if not process.alive():
            raise StackError(f"{name} ended while it was starting{_last_lines(log)}")
        if time.monotonic() > deadline:
            raise StackError(f"{name} was not healthy within {seconds:.0f} s{_last_lines(log)}")
        time.sleep(_POLL_SECONDS)


def stop(process: ProcessId, seconds: float) -> bool:
    """SIGTERM, then SIGKILL after ``seconds``; True if SIGTERM was enough. Returns when all of it is gone."""
    if not process.alive():
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while process.group():
        if time.monotonic() > deadline:
            _kill_group(process)
            return False
        time.sleep(_POLL_SECONDS)
    return True


def kill(process: ProcessId) -> None:
    """SIGKILL the process and its group; returns when all of it is gone."""
    if process.alive():
        _kill_group(process)


def _has_threads(entry: Path) -> bool:
    """Whether a dead leader's threads are still on their way out: until then its ports are open."""
    try:
        return len(list((entry / "task").iterdir())) > 1
    except OSError:
        return False


def _kill_group(process: ProcessId) -> None:
    """Only for a group that was seen to be ours: as long as one of it runs, its number is not reused."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    while process.group():
        time.sleep(_POLL_SECONDS)


def _last_lines(log: Path, count: int = 20) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"; its log {log} cannot be read: {error}"
    # Stack frames would crowd out the exception's message.
    telling = [line for line in lines if line.strip() and not line.lstrip().startswith("at ")][-count:]
    return f"; the last lines of {log}:\n" + "\n".join(f"  {line[:400]}" for line in telling)
