"""The processes of a benchmark: started on their own core, controlled by lines of JSON, stopped again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
_STOP_SECONDS = 15.0


class ChildError(Exception):
    """A process of the benchmark failed."""


def cores() -> tuple[int, int]:
    """The core for the measured process and the core for the measuring one; the same on a single-core machine."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with auditing and tracing only as in ``settings``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLAUDIT_", "OTEL_"))}
    # scikit-learn's and the linear algebra's threads would run on the core of the measuring process.
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **settings}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far: all threads, user and system, to the nanosecond (Linux)."""
    per_process_clock = (~pid << 3) | 2  # see clock_getcpuclockid(3): CPUCLOCK_SCHED of a process
    return time.clock_gettime(per_process_clock)


class Child:
    """A process that answers each line of JSON with one."""

    def __init__(self, process: subprocess.Popen[str], stdin: IO[str], stdout: IO[str], log: Path) -> None:
        self.process = process
        self._stdin = stdin
        self._stdout = stdout
        self._log = log

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request and waits for its answer.

        Raises:
            ChildError: the process ended instead.
        """
        with suppress(BrokenPipeError):  # then there is no answer either, and its error tells the reason
            self._stdin.write(json.dumps(request) + "\n")
            self._stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line of the process.

        Raises:
            ChildError: the process ended instead.
        """
        line = self._stdout.readline()
        if not line:
            raise ChildError(f"a benchmark process ended early; the end of its log:\n{tail(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def child(
    module: str,
    *arguments: str,
    core: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Child]:
    """Runs ``python -m benchmarks.<module>`` on ``core``; it ends when the block does."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    os.sched_setaffinity(process.pid, {core})  # before it has started a thread
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Child(process, process.stdin, process.stdout, log)
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # end of input ends it
        stop(process)
        process.stdout.close()


@contextmanager
def server(command: Sequence[str], *, core: int, log: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Runs a server on ``core`` and yields its process id; it gets SIGTERM when the block ends."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    os.sched_setaffinity(process.pid, {core})
    try:
        yield process.pid
    finally:
        process.terminate()
        stop(process)


def stop(process: subprocess.Popen[Any]) -> None:
    """Waits for the end of a process that was asked to stop; kills it on a timeout."""
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
