"""Notebooks and shells: sessions and cells, in this process and in real kernels and shells."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from mlaudit import ipython as extension
from mlaudit.capture import instrumentor
from mlaudit.capture.libraries import ipython as module
from mlaudit.catalog.names import DEBUG_ENDED, DEBUG_STARTED, NOTEBOOK_CELL_EXECUTED
from mlaudit.deliver.spool.files import read_frames
from mlaudit.event import Actor
from mlaudit.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTED, ENDED, CELL = DEBUG_STARTED, DEBUG_ENDED, NOTEBOOK_CELL_EXECUTED
SECRET = "hunter2-of-a-cell"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A shell in this process."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    # IPython puts these in place of Python's own.
    for name in ("displayhook", "excepthook", "ps1", "ps2", "ps3"):
        monkeypatch.setattr(sys, name, getattr(sys, name, ""), raising=False)
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    yield made
    made.history_manager.end_session()
    InteractiveShell.clear_instance()
    import builtins

    for name in ("get_ipython", "display"):
        vars(builtins).pop(name, None)


def spooled(state: Path) -> list[dict[str, Any]]:
    """The records that a process left in its spool."""
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    frames = [frame for segment in sorted(state.rglob("*.seg")) for frame in read_frames(segment)[0]]
    return [json.loads(LogRecord.FromString(frame.payload).body.string_value) for frame in frames]


def environment(state: Path, **more: str) -> dict[str, str]:
    """Of a process that is audited by the variable alone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLAUDIT_")}
    return {
        **inherited,
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_SERVICE_NAME": "notebooks",
        "MLAUDIT_STATE_DIR": str(state),
        "MLAUDIT_ENDPOINT": "http://127.0.0.1:9/v1/logs",
        "MLAUDIT_SHUTDOWN_SECONDS": "0",
        "MLAUDIT_OTEL": "off",
        "IPYTHONDIR": str(state / "ipython"),
        **more,
    }


def digest(code: str) -> str:
    """Of a cell."""
    return hashlib.sha256(code.encode()).hexdigest()


def test_a_cell_is_recorded_without_its_code(hooked: Any, shell: Any) -> None:
    """Digest, length, number, imports and duration of a cell, and the beginning of its session before it."""
    code = f"import json, os.path\nfrom collections import abc\npassword = '{SECRET}'\n"
    with hooked("ipython") as log:
        shell.run_cell(code, store_history=True)
        shell.run_cell("1 + 1", store_history=True)
        module.end_session(log.pipeline, shell, "the test is over")
    assert log.kinds() == [STARTED, CELL, CELL, ENDED]
    started, first, second, ended = (
        r for r in log.records if r["audit.kind"].startswith(("audit.debug", CELL))
    )
    assert first["audit.notebook.cell.digest"] == digest(code)
    assert first["audit.notebook.cell.lines"] == 3
    assert first["audit.notebook.cell.imports"] == ["collections", "json", "os"]
    assert second["audit.notebook.cell.number"] == first["audit.notebook.cell.number"] + 1
    assert first["event.duration"] > 0
    assert ended["event.reason"] == "the test is over"
    assert len({record["audit.debug.session_id"] for record in (started, first, second, ended)}) == 1
    assert {record["audit.debug.tool"] for record in (started, first, second, ended)} == {"ipython"}
    assert {record["audit.actor.type"] for record in (started, first, ended)} == {"user"}
    assert SECRET not in json.dumps(log.records)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (f"raise ValueError('{SECRET}')", "ValueError"),
        (f"x = '{SECRET}' +", "SyntaxError"),
        ("%no_such_magic", "UsageError"),
        ("import sys; sys.exit(1)", "SystemExit"),
    ],
)
def test_a_cell_that_fails(
    hooked: Any, shell: Any, code: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The class of its error and nothing of the message, which quotes code and data."""
    with hooked("ipython") as log:
        shell.run_cell(code)
    (record,) = log.of(CELL)
    assert record["error.type"] == error
    assert record["event.outcome"] == "failure"
    assert SECRET not in json.dumps(log.records)


def test_silent_and_empty_cells(hooked: Any, shell: Any) -> None:
    """What a front end runs silently is recorded and says so; an empty cell is nothing."""
    with hooked("ipython") as log:
        shell.run_cell("x = 1", silent=True)
        shell.run_cell("  \n")
    (record,) = log.of(CELL)
    assert record["event.reason"].startswith("executed silently")
    assert "audit.notebook.cell.number" not in record


def test_what_a_cell_does_is_done_by_the_person(
    hooked: Any, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events inside of a cell name the user of JupyterHub, unless the cell names an actor itself."""
    monkeypatch.setenv("JUPYTERHUB_USER", "carol")
    policy = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
redact: []
rules: [{name: all, level: metadata}]
"""
    with hooked("ipython", policy=policy) as log:
        shell.run_cell("import mlaudit\nmlaudit.record('audit.app.a.b')")
        shell.run_cell("with mlaudit.actor('bob'):\n    mlaudit.record('audit.app.a.b')")
    assert [record["audit.actor.id"] for record in log.of("audit.app.a.b")] == ["carol", "bob"]
    assert {record["audit.actor.id"] for record in log.of(CELL)} == {"carol"}
    assert module.current_actor.get() is None


def test_a_stated_actor_goes_first(hooked: Any, shell: Any) -> None:
    """A program that embeds a shell and says who acts is believed."""
    token = module.current_actor.set(Actor("embedder", method="context"))
    try:
        with hooked("ipython") as log:
            shell.run_cell("1")
    finally:
        module.current_actor.reset(token)
    assert log.of(CELL)[0]["audit.actor.method"] == "context"


def test_a_cell_that_cannot_be_recorded_does_not_run(
    hooked: Any, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under a refusing policy, with nothing to write to, the person sees the refusal instead."""
    from mlaudit.errors import SpoolUnavailableError

    policy = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
rules: [{name: all, level: metadata, on_failure: refuse}]
"""
    with hooked("ipython", policy=policy) as log:
        shell.run_cell("before = 1")
        log.fail(SpoolUnavailableError("full"))
        result = shell.run_cell("after = 1")
        log.heal()
    assert type(result.error_in_exec or result.error_before_exec).__name__ == "AuditRefusedError"
    assert "before" in shell.user_ns
    assert "after" not in shell.user_ns


def test_a_child_that_a_cell_forks_ends_no_session(hooked: Any, shell: Any) -> None:
    """Only the process of the shell ends its session."""
    code = "import os\nchild = os.fork()\nif not child: os._exit(len(sessions))\nstatus = os.waitpid(child, 0)[1]"
    with hooked("ipython") as log:
        shell.run_cell("1")
        shell.user_ns["sessions"] = module._sessions
        shell.run_cell(code)
    assert shell.user_ns["status"] == 0
    assert log.kinds() == [STARTED, CELL, CELL]


def test_broken_hooks_reach_nobody(hooked: Any, shell: Any, broken: str) -> None:
    """With every hook broken cells run as ever, and the trail says what failed."""
    with hooked("ipython") as log:
        assert shell.run_cell("40 + 2").result == 42
    assert any("capture.libraries.ipython" in str(record) for record in log.records)


@pytest.mark.parametrize(
    "code", ["import = 1", "x" * 300_000 + "import a", "import a\x00", "from . import a"]
)
def test_imports_of_what_does_not_parse(code: str) -> None:
    """No packages, and no error."""
    assert module.imported(code) == []


def test_the_extension_switches_a_session_on_and_off(
    shell: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the variable, loading begins a session and unloading ends it."""
    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    monkeypatch.setattr(instrumentor, "_watch_process", False)
    monkeypatch.setattr(instrumentor, "activate", lambda: module.IPythonIntegration().instrument())
    monkeypatch.setattr(instrumentor, "deactivate", lambda: module.IPythonIntegration().uninstrument())
    with capture(instrument=False) as log:
        extension.load_ipython_extension(shell)
        shell.run_cell("1")
        extension.unload_ipython_extension(shell)
        shell.run_cell("2")
    assert log.kinds() == [STARTED, CELL, ENDED]
    assert log.of(ENDED)[0]["event.reason"] == "the extension was unloaded"
    assert "MLAUDIT_ENABLED" not in os.environ


@pytest.mark.parametrize(("value", "says"), [("false", "is not audited"), ("true", "stays on")])
def test_the_extension_heeds_the_variable(
    shell: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str, says: str
) -> None:
    """Whoever set the variable decides: off stays off when loaded, on stays on when unloaded."""
    monkeypatch.setenv("MLAUDIT_ENABLED", value)
    if value == "false":
        extension.load_ipython_extension(shell)
    else:
        extension.unload_ipython_extension(shell)
    assert says in capsys.readouterr().out


def test_a_notebook_is_audited_by_the_variable_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real kernel: one session, and a record for each cell with the digest that the notebook's file proves."""
    state = tmp_path / "state"
    state.mkdir()
    for name, value in environment(state, JPY_SESSION_NAME="work/churn.ipynb").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    sources = [f"import json\nsecret = '{SECRET}'", "await __import__('asyncio').sleep(0)", "1 / 0"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(
        notebook, kernel_name="python3", allow_errors=True, timeout=60, shutdown_kernel="graceful"
    ).execute()
    # The kernel brings a debugger of its own, which is told as such.
    records = [record for record in spooled(state) if record.get("audit.debug.tool") != "debugpy"]
    cells = [record for record in records if record["audit.kind"] == CELL]
    shown = [record for record in cells if "audit.notebook.cell.number" in record]
    assert [record["audit.notebook.cell.digest"] for record in shown] == [
        digest(source) for source in sources
    ]
    assert [record["audit.notebook.cell.number"] for record in shown] == [1, 2, 3]
    assert [record.get("error.type") for record in shown] == [None, None, "ZeroDivisionError"]
    assert shown[0]["audit.notebook.cell.imports"] == ["json"]
    assert {record["audit.target.id"] for record in cells} == {"work/churn.ipynb"}
    (started,) = [record for record in records if record["audit.kind"] == STARTED]
    (ended,) = [record for record in records if record["audit.kind"] == ENDED]
    assert started["audit.debug.tool"] == "jupyter"
    assert {record["audit.debug.session_id"] for record in cells} == {ended["audit.debug.session_id"]}
    assert SECRET not in json.dumps(records)


def test_ipython_with_a_command(tmp_path: Path) -> None:
    """``ipython -c`` is a session with one cell, ended with the process."""
    command = [sys.executable, "-m", "IPython", "--no-banner", "-c", "print(6 * 7)"]
    done = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip().endswith("42")
    kinds = [record["audit.kind"] for record in spooled(tmp_path)]
    assert [kind for kind in kinds if kind in (STARTED, CELL, ENDED)] == [STARTED, CELL, ENDED]


EMBEDS = """
import IPython
local = "of the caller"
def f():
    local = "of the function"
    IPython.embed(colors="NoColor", confirm_exit=False)
f()
print("goes on")
"""


def test_an_embedded_shell(tmp_path: Path) -> None:
    """A shell inside of a program sees the program's names as ever; its session ends when it is left."""
    done = subprocess.run(
        [sys.executable, "-c", EMBEDS],
        env=environment(tmp_path),
        input="print(local)\nexit\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "of the function" in done.stdout
    assert "goes on" in done.stdout
    records = spooled(tmp_path)
    kinds = [record["audit.kind"] for record in records]
    assert [kind for kind in kinds if kind in (STARTED, CELL, ENDED)] == [STARTED, CELL, CELL, ENDED]
    ended = next(record for record in records if record["audit.kind"] == ENDED)
    assert ended["event.reason"] == "the shell was left"


def test_the_extension_in_a_real_shell(tmp_path: Path) -> None:
    """Loaded by a line, without the variable: what comes after it is recorded, and the end of the session."""
    state = environment(tmp_path)
    del state["MLAUDIT_ENABLED"]
    subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--simple-prompt"],
        env=state,
        input="1\n%load_ext mlaudit.ipython\nimport json\nexit\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    records = spooled(tmp_path)
    kinds = [record["audit.kind"] for record in records]
    assert [kind for kind in kinds if kind in (STARTED, CELL, ENDED)] == [STARTED, CELL, CELL, ENDED]
    assert [record["audit.notebook.cell.digest"] for record in records if record["audit.kind"] == CELL] == [
        digest("import json"),
        digest("exit"),
    ]
