"""Programs that a serving process starts, by the real calls."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture.process import audit_hooks, lifecycle, subprocesses
from mlaudit.catalog.names import RUNTIME_PROCESS_STARTED
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIND = RUNTIME_PROCESS_STARTED


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditLog]:
    """Records of a process that serves, with the hook for programs."""
    monkeypatch.setattr(lifecycle, "serves", lambda: True)
    with capture(instrument=False) as found:
        subprocesses.install()
        try:
            yield found
        finally:
            audit_hooks.uninstall()


def test_popen_is_told_with_program_command_and_place(log: AuditLog, tmp_path: Path) -> None:
    """Whoever starts a program is named by file, function and line."""
    subprocess.run(["true", "-x"], cwd=tmp_path, check=True)
    (record,) = log.of(KIND)
    assert record["audit.target.id"] == "true"
    assert record["process.command_line"] == "true -x"
    assert record["process.working_directory"] == str(tmp_path)
    assert record["audit.runtime.event"] == "subprocess.Popen"
    assert record["code.function.name"] == "test_popen_is_told_with_program_command_and_place"
    assert record["event.outcome"] == "success"
    assert record["audit.guarantee"] == "durable"


def test_secrets_on_the_command_line_are_removed(log: AuditLog) -> None:
    """A password given as an argument is not in the record."""
    subprocess.run(["true", "--password", "hunter2secret"], check=True)
    assert "hunter2secret" not in str(log.of(KIND))
    assert "--password" in log.of(KIND)[0]["process.command_line"]


def test_shells_are_told_with_what_they_run(log: AuditLog) -> None:
    """os.system, os.popen and shell=True start a shell."""
    os.system("exit 0")
    os.popen("exit 0").close()
    assert [record["audit.target.id"] for record in log.of(KIND)] == ["/bin/sh", "/bin/sh"]
    assert [record["process.command_line"] for record in log.of(KIND)] == ["exit 0", "/bin/sh -c exit 0"]


def test_posix_spawn_is_told_once(log: AuditLog) -> None:
    """By itself, and where subprocess uses it."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    subprocess.run(["/bin/true"], close_fds=False, check=True)
    assert [record["audit.runtime.event"] for record in log.of(KIND)] == [
        "os.posix_spawn",
        "subprocess.Popen",
    ]


def test_asyncio_starts_programs_too(log: AuditLog) -> None:
    """An event loop's subprocess is recorded with the program's own line."""

    async def run() -> None:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()

    asyncio.run(run())
    (record,) = log.of(KIND)
    assert record["code.function.name"].endswith("run")


def test_program_that_is_not_there_is_a_failure(log: AuditLog) -> None:
    """The program gets its own error, the record says that it could not be started."""
    with pytest.raises(FileNotFoundError):
        subprocess.run(["no-such-program-here"], check=True)
    (record,) = log.of(KIND)
    assert (record["event.outcome"], record["audit.target.id"]) == ("failure", "no-such-program-here")


@pytest.mark.parametrize(
    ("event", "args", "program", "command"),
    [
        ("os.exec", (b"/bin/ls", ["ls", "-l"], None), "/bin/ls", "ls -l"),
        ("os.spawn", (0, "/bin/ls", ("ls",), None), "/bin/ls", "ls"),
        ("pty.spawn", (["bash", "-i"],), "bash", "bash -i"),
        ("pty.spawn", ("bash",), "bash", "bash"),
        ("subprocess.Popen", (None, "ls -l", None, None), "ls -l", "ls -l"),
        ("subprocess.Popen", ("x", [object()], None, None), "x", "(object)"),
    ],
)
def test_every_way_of_saying_it(
    log: AuditLog, event: str, args: tuple[Any, ...], program: str, command: str
) -> None:
    """Texts, bytes, lists and what is no text at all are described."""
    sys.audit(event, *args)
    (record,) = log.of(KIND)
    assert (record["audit.target.id"], record["process.command_line"]) == (program, command)


def test_job_may_start_what_it_likes(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not serve leaves no record of programs."""
    monkeypatch.setattr(lifecycle, "serves", lambda: False)
    subprocess.run(["true"], check=True)
    assert log.of(KIND) == []


def test_fault_does_not_keep_the_program_from_starting(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken hook is recorded; the program runs."""
    monkeypatch.setattr(subprocesses, "caller", lambda: 1 / 0)
    assert subprocess.run(["true"], check=False).returncode == 0
    assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]
