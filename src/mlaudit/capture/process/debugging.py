"""Debuggers and interactive shells: ``audit.debug.started`` and ``audit.debug.ended``.

A debugger shows itself by ``breakpoint()``, by a trace function (``sys.settrace``, ``sys.monitoring``), by the
import of its modules, or by its prompt. Coverage, profilers and test tools also trace, and are ignored
by name (``TRACERS``). Whose trace function it is can be seen from the code that sets it; the runtime does not say what
is set.

Debuggers that were active before an audited library was imported (``python -m pdb``, debugpy's launcher, the
interactive interpreter) are detected when the hooks are installed. IPython and Jupyter have hooks of their own.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import wrapt

from mlaudit.capture.process import audit_hooks
from mlaudit.capture.process.background import background
from mlaudit.capture.process.caller import caller, code_fields
from mlaudit.capture.process.debug_sessions import sessions
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.process.caller import Caller

COMPONENT: Final = "capture.debugging"
PDB: Final = "pdb"
PYTHON: Final = "python"
TRACE: Final = "trace"  # a trace function of the program's own
SETTRACE: Final = "sys.settrace"
MONITORING: Final = "sys.monitoring.register_callback"
# Tools that measure or test and do not debug, by the first part of the module's name.
TRACERS: Final = frozenset(
    {"coverage", "slipcover", "pytest", "_pytest", "pytest_cov", "hypothesis", "doctest", "trace", "unittest", "nose2"}
    | {"line_profiler", "kernprof", "memory_profiler", "pyinstrument", "viztracer", "scalene", "yappi", "cProfile"}
    | {"profile", "profiling", "hunter", "snoop", "pysnooper", "torch", "numba", "beartype", "threading", "crosshair"}
    | {"sys_monitoring", "typeguard", "monkeytype", "ddtrace", "sentry_sdk", "dynapyt", "IPython", "mlaudit"}
)  # fmt: skip
_PYDEVD: Final = ("pydevd", "_pydevd", "_pydev_", "debugpy", "pydev")
# Sets a trace function when it is imported, to test whether it can, and removes it.
_PROBE: Final = "pydevd_constants"
_ENDINGS: Final = frozenset({"set_continue", "set_quit", "stop_trace"})
_OF_THE_PROCESS: Final = ("debugpy", "pydevd")
_installed = False


class _Left(threading.local):
    now = False


_left: Final = _Left()


def install() -> None:
    """Starts to listen, and detects debuggers that are already active. Idempotent."""
    global _installed
    audit_hooks.handle(
        {
            "builtins.breakpoint": _on_breakpoint,
            SETTRACE: _on_trace,
            MONITORING: _on_monitoring,
            "cpython.run_interactivehook": _on_interactive,
            "sys.remote_exec": _on_remote,
            "cpython.remote_debugger_script": _on_remote,
        }
    )
    if _installed:
        return
    _installed = True
    for module in _OF_THE_PROCESS:
        wrapt.register_post_import_hook(_on_import, module)
    wrapt.register_post_import_hook(
        lambda module: _around(module.Pdb, "interaction", PDB, "pdb.Pdb.interaction"), PDB
    )
    wrapt.register_post_import_hook(
        lambda module: _around(
            module.InteractiveConsole, "interact", PYTHON, "code.InteractiveConsole.interact"
        ),
        "code",
    )
    _look_around()


def _look_around() -> None:
    """Detects debuggers that were active before the hook."""
    tool = _tracing()
    if tool:
        sessions.begin(tool, SETTRACE, {}, thread=tool == PDB)
    if hasattr(sys, "ps1") and "IPython" not in sys.modules:
        sessions.begin(PYTHON, "sys.ps1", {})


def _tool(module: str, owner: Any = None) -> str:
    """The debugger that a module belongs to; "" for other modules."""
    if module.startswith(_PYDEVD):
        return "debugpy" if "debugpy" in sys.modules else "pydevd"
    if module in ("bdb", PDB) or isinstance(owner, getattr(sys.modules.get("bdb"), "Bdb", ())):
        return PDB
    root = module.partition(".")[0]
    if root == "__main__":
        return TRACE
    return "" if root in TRACERS else root


def _on_breakpoint(event: str, _args: tuple[Any, ...]) -> None:
    wanted = os.environ.get("PYTHONBREAKPOINT", "")
    hook = sys.breakpointhook
    if hook is not sys.__breakpointhook__:
        wanted = str(getattr(hook, "__module__", "") or type(hook).__module__)
    elif wanted == "0":  # turned off: nothing will happen
        return
    found = caller()
    root = wanted.partition(".")[0]
    # pytest's is pdb; IPython has a hook of its own.
    tool = PDB if not root or root in ("_pytest", PDB) else _tool(root)
    if found is not None and tool:
        sessions.begin(tool, event, found.fields, thread=tool == PDB)


def _on_trace(event: str, _args: tuple[Any, ...]) -> None:
    found = caller()
    if found is None or found.frame is None:
        return
    tool = _tool(found.modules[0] if found.modules else "")
    if tool == PDB:
        _on_pdb(event, found, found.frame)
    elif sys.gettrace() is not None:
        # Removed or replaced. pydevd does both at any time: its session ends with the process.
        before = _tracing()
        if before and before not in _OF_THE_PROCESS:
            sessions.end(before, thread=before == PDB)
    elif _left.now:
        # The runtime removes what pdb has already removed, in the middle of the program's own code.
        _left.now = False
    elif tool and not found.modules[0].endswith(_PROBE):
        sessions.begin(tool, event, _without_own(tool, found.fields))


def _on_pdb(event: str, found: Caller, frame: FrameType) -> None:
    """Pdb, or another debugger made of bdb, sets or removes the trace function."""
    _left.now = bool(getattr(frame.f_locals.get("self"), "quitting", False))
    if _left.now or frame.f_code.co_name in _ENDINGS:
        sessions.end(PDB, thread=True)
    else:
        sessions.begin(PDB, event, found.fields, thread=True)


def _tracing() -> str:
    """The debugger whose trace function this thread has; "" for none."""
    trace = sys.gettrace()
    if trace is None:
        return ""
    owner = getattr(trace, "__self__", None)
    module = type(owner).__module__ if owner is not None else str(getattr(trace, "__module__", ""))
    return _tool(module, owner)


def _on_monitoring(event: str, args: tuple[Any, ...]) -> None:
    found = caller()
    if found is None or found.frame is None:
        return
    tool = _tool(found.modules[0] if found.modules else "")
    if not tool:
        return
    if args and args[0] is None:
        if tool not in _OF_THE_PROCESS:
            sessions.end(tool, thread=tool == PDB)
    else:
        sessions.begin(tool, event, _without_own(tool, found.fields), thread=tool == PDB)


def _without_own(tool: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Drops the debugger's own line, which does not show what it controls."""
    own = tool in _OF_THE_PROCESS and "pydevd" in fields.get("code.file.path", "")
    return {} if own else fields


def _on_interactive(event: str, _args: tuple[Any, ...]) -> None:
    sessions.begin(PYTHON, event, {})


def _on_remote(event: str, args: tuple[Any, ...]) -> None:
    """Another process is made to run a script (Python 3.14), or this one is."""
    found = caller()
    detail = " ".join(os.fsdecode(one) if isinstance(one, str | bytes) else str(one) for one in args)
    if found is not None:
        sessions.begin("remote_exec", event, found.fields, detail=detail[:300])
        sessions.end("remote_exec")


def _on_import(module: Any) -> None:
    if "ipykernel" in sys.modules:  # imports debugpy for every kernel; a debugging one sets a trace function
        return
    _contained(lambda: sessions.begin(_tool(module.__name__), "import", _importer(), detail=module.__name__))


def _importer() -> dict[str, Any]:
    found = caller()
    return found.fields if found is not None else {}


def _around(owner: Any, name: str, tool: str, event: str) -> None:
    """Records a session while the prompt is open, unless one is already open.

    Not installed by ``capture.hooks``, which would start a trail in a process without machine learning.
    """
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = _contained(lambda: sessions.begin(tool, event, _held(args), thread=tool == PDB))
        try:
            return original(*args, **kwargs)
        finally:
            if began:
                _contained(lambda: sessions.end(tool, thread=tool == PDB))

    setattr(owner, name, wrapper)


def _held(args: tuple[Any, ...]) -> dict[str, Any]:
    """The frame that a debugger was given, else the caller's."""
    frame = args[1] if len(args) > 1 else None
    if isinstance(frame, FrameType):
        return code_fields(frame.f_code, frame.f_lineno)
    return _importer()


def _contained(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the user must get the prompt
        pipeline = current.running()
        if pipeline is not None:
            fault = error
            background.submit(lambda: pipeline.fault(COMPONENT, fault))
        return None
