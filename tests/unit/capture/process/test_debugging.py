"""Debuggers and interactive shells, seen from inside of a process; whole processes are in the integration tests."""

from __future__ import annotations

import bdb
import code
import contextlib
import io
import os
import pdb  # noqa: T100
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from mlaudit.capture.process import audit_hooks, debug_sessions, debugging
from mlaudit.capture.process.debug_sessions import DebugSessions
from mlaudit.catalog.names import DEBUG_ENDED, DEBUG_STARTED
from mlaudit.testing import AuditLog, capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditLog]:
    """Records under the built-in policy, with the hooks for debuggers."""
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    monkeypatch.setattr(sys, "breakpointhook", sys.__breakpointhook__)
    tracing = sys.gettrace()
    with capture(instrument=False) as found:
        debugging.sessions.forget()
        debugging.install()
        debugging.sessions.forget()
        found._payloads.clear()
        try:
            yield found
        finally:
            audit_hooks.uninstall()
            debugging.sessions.forget()
            sys.settrace(tracing)


def debugger(commands: str) -> pdb.Pdb:
    """A pdb with scripted commands."""
    return pdb.Pdb(stdin=io.StringIO(commands), stdout=io.StringIO())


def recorded(log: AuditLog) -> list[tuple[str, str]]:
    """Kind and tool of each record of a debugger."""
    return [
        (record["audit.kind"].rpartition(".")[2], record["audit.debug.tool"])
        for record in log.records
        if record["audit.kind"].startswith("audit.debug.")
    ]


def in_thread(work: Callable[[], Any]) -> None:
    """Runs work in a thread of its own, which coverage or a debugger of this test run does not trace."""
    tracing = threading.gettrace()
    threading.settrace(None)  # type: ignore[arg-type]
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    finally:
        threading.settrace(tracing)  # type: ignore[arg-type]


def test_pdb_is_told_from_start_to_end(log: AuditLog) -> None:
    """``set_trace`` and ``continue`` are a session: one id, its duration, and the line that is debugged."""

    def debugged() -> None:
        debugger("p 1\nc\n").set_trace()
        str(1)

    in_thread(debugged)
    started, ended = log.of(DEBUG_STARTED)[0], log.of(DEBUG_ENDED)[0]
    assert recorded(log) == [("started", "pdb"), ("ended", "pdb")]
    assert started["audit.debug.session_id"] == ended["audit.debug.session_id"]
    assert ended["event.duration"] > 0
    assert started["code.file.path"] == __file__
    assert started["code.function.name"].endswith("debugged")
    assert started["audit.runtime.event"] == "sys.settrace"
    assert started["audit.guarantee"] == "durable"


def test_session_goes_on_while_there_are_breakpoints(log: AuditLog) -> None:
    """``continue`` with a breakpoint set ends nothing; ``quit`` does, and what the runtime then does is no session."""

    def debugged() -> None:
        tool = debugger("c\n")
        tool.set_break(__file__, 1)
        tool.set_trace()
        str(1)
        assert recorded(log) == [("started", "pdb")]
        tool.clear_all_breaks()
        tool.botframe = None
        tool.set_continue()

    in_thread(debugged)
    assert recorded(log) == [("started", "pdb"), ("ended", "pdb")]

    def quits() -> None:
        with contextlib.suppress(bdb.BdbQuit):
            debugger("q\n").set_trace()
            str(1)

    in_thread(quits)
    assert recorded(log)[2:] == [("started", "pdb"), ("ended", "pdb")]


def test_program_run_by_pdb(log: AuditLog) -> None:
    """``Pdb.run`` is one session, however it ends."""
    in_thread(lambda: debugger("c\n").run("1 + 1"))
    in_thread(lambda: debugger("q\n").run("1 + 1"))
    assert recorded(log) == [("started", "pdb"), ("ended", "pdb")] * 2


def test_post_mortem_is_a_session_without_a_trace_function(log: AuditLog) -> None:
    """Looking at what crashed takes hold of the process as well; the frame's place is recorded."""
    try:
        int("x")
    except ValueError as error:
        tool = debugger("p 1\nq\n")
        tool.reset()
        tool.interaction(None, error.__traceback__)
    assert recorded(log) == [("started", "pdb"), ("ended", "pdb")]
    assert log.of(DEBUG_STARTED)[0]["audit.runtime.event"] == "pdb.Pdb.interaction"


def test_breakpoint_is_told_before_the_debugger_has_it(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook that is set decides the tool; 0 switches it off, and then nothing is recorded."""
    module = types.ModuleType("webdebug")
    exec("def set_trace(*args): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "webdebug", module)
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    breakpoint()  # noqa: T100
    assert recorded(log) == []
    monkeypatch.setenv("PYTHONBREAKPOINT", "webdebug.set_trace")
    breakpoint()  # noqa: T100
    monkeypatch.setattr(sys, "breakpointhook", module.set_trace)
    breakpoint()  # noqa: T100
    assert recorded(log) == [("started", "webdebug")]
    assert log.of(DEBUG_STARTED)[0]["audit.runtime.event"] == "builtins.breakpoint"


@pytest.mark.parametrize("tool", ["coverage", "_pytest", "hypothesis", "line_profiler", "trace", "threading"])
def test_coverage_profilers_and_test_tools_are_left_alone(log: AuditLog, tool: str) -> None:
    """They trace and take hold of nothing."""
    space: dict[str, Any] = {"__name__": f"{tool}.inner", "sys": sys}
    exec("def on():\n    sys.settrace(lambda *_: None)\ndef off():\n    sys.settrace(None)\n", space)

    def trace() -> None:
        space["on"]()
        space["off"]()

    in_thread(trace)
    assert recorded(log) == []


def test_trace_function_of_the_program_is_told(log: AuditLog) -> None:
    """What nobody knows by name takes hold, too, until it is taken off."""
    space: dict[str, Any] = {"__name__": "spy.core", "sys": sys, "str": str}
    exec(
        "def hold(*_): return None\ndef on():\n    sys.settrace(hold)\ndef off():\n    sys.settrace(None)\n",
        space,
    )

    def trace() -> None:
        space["on"]()
        space["off"]()

    in_thread(trace)
    assert recorded(log) == [("started", "spy"), ("ended", "spy")]


def test_monitoring_is_told_like_a_trace_function(log: AuditLog) -> None:
    """Python 3.12 and later: a callback that is registered begins a session, None ends it; coverage's does neither."""
    for name in ("spy.core", "coverage.sysmon"):
        space: dict[str, Any] = {"__name__": name, "sys": sys}
        exec("def register(func):\n    sys.audit('sys.monitoring.register_callback', func)\n", space)
        space["register"](print)
        space["register"](None)
    assert recorded(log) == [("started", "spy"), ("ended", "spy")]


def test_pydevd_is_one_session_until_the_process_ends(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its trace function off and puts it on as it pleases."""
    monkeypatch.setitem(sys.modules, "debugpy", types.ModuleType("debugpy"))
    space: dict[str, Any] = {"__name__": "_pydevd_bundle.pydevd_comm", "sys": sys}
    exec(
        "def hold(*_): return None\ndef on():\n    sys.settrace(hold)\ndef off():\n    sys.settrace(None)\n",
        space,
    )

    def trace() -> None:
        for _ in range(3):
            space["on"]()
            space["off"]()

    in_thread(trace)
    debugging.sessions.end_all()
    assert recorded(log) == [("started", "debugpy"), ("ended", "debugpy")]
    assert log.of(DEBUG_ENDED)[0]["event.reason"] == "the process ended"


def test_import_of_debugpy_is_told_but_for_jupyters(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of Jupyter imports debugpy whether or not anybody debugs."""
    debugpy = types.ModuleType("debugpy")
    monkeypatch.setitem(sys.modules, "debugpy", debugpy)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    debugging._on_import(debugpy)
    assert recorded(log) == []
    monkeypatch.delitem(sys.modules, "ipykernel")
    debugging._on_import(debugpy)
    debugging._on_import(types.ModuleType("pydevd"))
    assert recorded(log) == [("started", "debugpy")]
    assert log.of(DEBUG_STARTED)[0]["audit.runtime.detail"] == "debugpy"


def test_probe_of_pydevd_is_no_session(log: AuditLog) -> None:
    """What it tries when it is imported, in every kernel of Jupyter, takes hold of nothing."""
    space: dict[str, Any] = {"__name__": "_pydevd_bundle.pydevd_constants", "sys": sys}
    exec("def probe():\n    sys.settrace(lambda *_: None)\n    sys.settrace(None)\n", space)
    in_thread(space["probe"])
    assert recorded(log) == []


@pytest.mark.parametrize("event", ["sys.remote_exec", "cpython.remote_debugger_script"])
def test_remote_execution_is_told_with_what_is_run(log: AuditLog, event: str) -> None:
    """Python 3.14: a script that another process runs in this one, or this one in another."""
    sys.audit(event, 4711, "/tmp/attach.py")
    assert recorded(log) == [("started", "remote_exec"), ("ended", "remote_exec")]
    assert log.of(DEBUG_STARTED)[0]["audit.runtime.detail"] == "4711 /tmp/attach.py"


def test_prompt_within_the_program_is_told(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """``code.interact`` is a session of python with its duration; what the program gets from it is unchanged."""
    lines = iter(["1 + 1"])

    def read(_prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    code.interact(banner="", readfunc=read, exitmsg="")
    assert recorded(log) == [("started", "python"), ("ended", "python")]
    assert log.of(DEBUG_STARTED)[0]["code.function.name"] == "test_prompt_within_the_program_is_told"


def test_interactive_interpreter_is_told(log: AuditLog) -> None:
    """``python -i`` says so before its prompt; it lasts as long as the process."""
    sys.audit("cpython.run_interactivehook", print)
    assert recorded(log) == [("started", "python")]


def test_broken_hook_leaves_the_debugger_alone(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is reported; the user gets the prompt."""
    monkeypatch.setattr(debug_sessions, "new_record_id", lambda: 1 / 0)
    output = io.StringIO()

    def debugged() -> None:
        pdb.Pdb(stdin=io.StringIO("p 6 * 7\nc\n"), stdout=output).set_trace()
        str(1)

    in_thread(debugged)
    assert "42" in output.getvalue()
    assert "ZeroDivisionError" in log.of("audit.pipeline.failure")[0]["audit.failure.reason"]


def test_sessions_of_a_parent_are_not_those_of_its_child(log: AuditLog) -> None:
    """A forked child forgets them; after the end of the process none begins."""
    sessions = DebugSessions()
    assert sessions.begin("pdb", "x", {})
    assert not sessions.begin("pdb", "x", {})
    sessions.forget()
    sessions.end("pdb")
    assert sessions.begin("pdb", "x", {})
    sessions.end_all()
    assert not sessions.begin("pdb", "x", {})
    sessions.reopen()
    assert sessions.begin("pdb", "x", {})
    assert [kind for kind, _ in recorded(log)] == ["started", "started", "ended", "started"]


def test_actor_is_the_one_of_the_context(log: AuditLog) -> None:
    """Who debugs is the process's own identity, unless the program says otherwise."""
    assert os.environ.get("PYTHONBREAKPOINT") is None
    sys.audit("cpython.run_interactivehook", print)
    assert log.of(DEBUG_STARTED)[0]["audit.actor.type"] == "service"
