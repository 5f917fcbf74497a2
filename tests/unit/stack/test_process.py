"""Supervision, with small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlaudit.errors import StackError
from mlaudit.stack import process
from mlaudit.stack.process import Command, ProcessId

# Starts a child of its own, says so, and ends at SIGTERM - or, with "stubborn", does not.
PROGRAM = """
import signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if "stubborn" not in sys.argv:
    def end(*_):
        child.terminate(); child.wait(); sys.exit(0)
    signal.signal(signal.SIGTERM, end)
print("ready", child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def launch(tmp_path):
    """Starts Python programs under supervision; kills what a test left running."""
    started: list[ProcessId] = []

    def start(*arguments: str, program: str = PROGRAM, tied: bool = False) -> tuple[ProcessId, Path]:
        log = tmp_path / "logs" / f"{len(started)}.log"
        command = Command("program", [sys.executable, "-c", program, *arguments], dict(os.environ), log)
        started.append(process.start(command, tied=tied))
        return started[-1], log

    yield start
    for one in started:
        process.kill(one)


def ready(log: Path) -> bool:
    """Whether the program said that it runs."""
    return "ready" in log.read_text()


def test_stop_ends_the_process_and_its_children(launch):
    """SIGTERM is enough for a program that listens to it."""
    one, log = launch()
    process.wait_until(lambda: ready(log), one, "program", log, 20)
    assert one.alive()
    assert len(one.group()) == 2
    assert process.stop(one, 20) is True
    assert not one.alive()
    assert one.group() == []


def test_stop_kills_a_program_that_does_not_listen(launch):
    """After the deadline comes SIGKILL, for its children too."""
    one, log = launch("stubborn")
    process.wait_until(lambda: ready(log), one, "program", log, 20)
    assert process.stop(one, 0.2) is False
    assert not one.alive()
    assert one.group() == []


def test_process_of_another_start_time_is_never_signalled(launch):
    """A pid that the system reused for another process is not signalled."""
    one, log = launch()
    process.wait_until(lambda: ready(log), one, "program", log, 20)
    recycled = replace(one, started="1")
    assert not recycled.alive()
    assert process.stop(recycled, 0) is True
    process.kill(recycled)
    assert one.alive()


def test_program_that_ends_while_starting_is_reported_with_its_last_words(launch):
    """The error contains the program's last output."""
    one, log = launch(program="import sys; sys.exit('the port is taken')")
    with pytest.raises(StackError, match=r"program ended while it was starting(.|\n)*the port is taken"):
        process.wait_until(lambda: False, one, "program", log, 20)


def test_deadline_is_reported_with_the_last_lines(launch):
    """A program that never becomes healthy is reported, not waited for."""
    one, log = launch()
    process.wait_until(lambda: ready(log), one, "program", log, 20)
    with pytest.raises(StackError, match=r"not healthy within 0 s(.|\n)*ready"):
        process.wait_until(lambda: False, one, "program", log, 0.1)


def test_program_that_does_not_exist_is_reported(tmp_path):
    """The error names the file."""
    command = Command("program", [str(tmp_path / "absent")], {}, tmp_path / "log")
    with pytest.raises(StackError, match="cannot start program .*absent"):
        process.start(command, tied=False)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties processes on Linux only")
def test_tied_process_dies_with_its_starter(tmp_path):
    """Even SIGKILL on the starter leaves nothing behind."""
    starter = f"""
import os, signal, sys
from pathlib import Path
from mlaudit.stack import process
command = process.Command("child", [sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ),
                          Path({str(tmp_path / "log")!r}))
child = process.start(command, tied=True)
# Not before it was tied: until it has become the program, the kernel does not know about the tie.
process.wait_until(lambda: b"setpriv" not in Path(f"/proc/{{child.pid}}/cmdline").read_bytes(), child, "child",
                   Path({str(tmp_path / "log")!r}), 20)
print(child.pid, child.started, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, started = done.stdout.split()
    child = ProcessId(int(pid), started)
    deadline = process.time.monotonic() + 20
    while child.alive():
        assert process.time.monotonic() < deadline
        process.time.sleep(0.02)
