"""IPython (8.0 and later), and with it Jupyter's kernels: sessions, and the cells that are executed in them.

Every cell calls ``InteractiveShell.run_cell_async``: of a notebook, of a terminal, of ``ipython -c``,
of an embedded shell, also one that a front end runs silently. The code itself is never recorded, at no level: it holds
data and secrets that no rule can find. Its digest proves which cell of a notebook that is kept it was.

A session begins with the prompt of a terminal, or with its first cell, and ends with the prompt or the process. What is
done in a session is done by the person who is logged in: the user of JupyterHub, else of the operating system.
"""

from __future__ import annotations

import ast
import getpass
import hashlib
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.context import Setting
from mlaudit.capture.hooks import Hooks, refuse_unless_writable
from mlaudit.capture.origin import originate
from mlaudit.capture.process.lifecycle import lifecycle
from mlaudit.capture.request_context import current_actor
from mlaudit.catalog.names import DEBUG_ENDED, DEBUG_STARTED, NOTEBOOK_CELL_EXECUTED
from mlaudit.event import FAILURE, SUCCESS, Actor, AuditEvent, Target, new_record_id
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.ipython"
MAX_IMPORTS: Final = 50
MAX_PARSED: Final = 200_000
_LONGEST: Final = 256


class Session:
    """One shell, from its first prompt or cell on."""

    def __init__(self, shell: Any) -> None:
        self.id = new_record_id()
        self.tool = "jupyter" if hasattr(shell, "kernel") else "ipython"
        self.target = _target(shell, self.tool)
        self.actor = Actor(_person(), method="process")
        self._begun = time.perf_counter_ns()

    def event(self, kind: str, outcome: str, fields: dict[str, Any]) -> AuditEvent:
        """An event of this session, by the actor of the context, else by the person at the keyboard."""
        own = {"audit.debug.tool": self.tool, "audit.debug.session_id": self.id}
        actor = current_actor.get() or self.actor
        return originate(AuditEvent(kind, outcome, actor, self.target, {**own, **fields}))

    def ended(self, pipeline: Pipeline, reason: str) -> None:
        """Records the end."""
        duration = time.perf_counter_ns() - self._begun
        pipeline.emit(self.event(DEBUG_ENDED, SUCCESS, {"event.duration": duration, "event.reason": reason}))


_hooks: Final = Hooks(COMPONENT)
_sessions: Final[weakref.WeakKeyDictionary[Any, Session]] = weakref.WeakKeyDictionary()
# A child that a cell forks is no session of its own, and does not end its parent's.
os.register_at_fork(after_in_child=_sessions.clear)
_ends_with_process = False


class IPythonIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "ipython"
    module: ClassVar[str] = "IPython.core.interactiveshell"

    def instrument(self) -> None:
        """Hooks the execution of cells and the prompt of the terminal."""
        global _ends_with_process
        from IPython.core.interactiveshell import InteractiveShell

        _hooks.around(
            InteractiveShell, "run_cell_async", _executing, kind=NOTEBOOK_CELL_EXECUTED, when=_has_code
        )
        _hooks.when_imported("IPython.terminal.interactiveshell", _hook_terminal)
        if not _ends_with_process:
            _ends_with_process = True
            lifecycle.before_stop(_process_ends)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        _hooks.undo()


def session_of(pipeline: Pipeline, shell: Any) -> Session:
    """The session of a shell, which begins with the first call.

    Raises:
        AuditRefusedError: its beginning could not be recorded, and the policy says refuse.
    """
    session = _sessions.get(shell)
    if session is None:
        session = Session(shell)
        pipeline.emit(session.event(DEBUG_STARTED, SUCCESS, {}))
        _sessions[shell] = session
    return session


def end_session(pipeline: Pipeline, shell: Any, reason: str) -> None:
    """Ends the session of a shell, if it has one.

    Raises:
        AuditRefusedError: its end could not be recorded, and the policy says refuse.
    """
    session = _sessions.pop(shell, None)
    if session is not None:
        session.ended(pipeline, reason)


def _hook_terminal(module: Any) -> None:
    _hooks.around(module.TerminalInteractiveShell, "interact", _prompting, kind=DEBUG_STARTED)


def _prompting(pipeline: Pipeline, call: Call) -> Audit:
    session_of(pipeline, call.instance)
    yield
    end_session(pipeline, call.instance, "the shell was left")


def _process_ends() -> None:
    pipeline = current.running()
    if pipeline is not None:
        for shell in list(_sessions):
            end_session(pipeline, shell, "the process ended")


def _has_code(call: Call) -> bool:
    return bool(str(call.argument(0, "raw_cell", "")).strip())


def _executing(pipeline: Pipeline, call: Call) -> Audit:
    session = session_of(pipeline, call.instance)
    refuse_unless_writable(pipeline, NOTEBOOK_CELL_EXECUTED, "every cell")
    code = call.argument(0, "raw_cell")
    fields: dict[str, Any] = {
        "audit.notebook.cell.digest": hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest(),
        "audit.notebook.cell.lines": len(code.splitlines()),
    }
    if call.argument(2, "silent", False):
        fields["event.reason"] = "executed silently: it is not in the history of the notebook"
    elif call.argument(1, "store_history", False):
        fields["audit.notebook.cell.number"] = call.instance.execution_count
    if imports := imported(call.kwargs.get("transformed_cell") or code):
        fields["audit.notebook.cell.imports"] = imports
    person = Setting(current_actor)
    if current_actor.get() is None:
        person.set(session.actor)
    try:
        outcome = yield
    finally:
        person.restore()
    fields["event.duration"] = outcome.duration
    error = outcome.error or _raised(outcome.result)
    if error is not None:
        # Not its message, which quotes code and data.
        fields["error.type"] = type(error).__name__
    pipeline.emit(session.event(NOTEBOOK_CELL_EXECUTED, SUCCESS if error is None else FAILURE, fields))


def _raised(result: Any) -> BaseException | None:
    error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
    return error if isinstance(error, BaseException) else None


def imported(code: str) -> list[str]:
    """The packages that code imports, sorted; empty if the code does not parse."""
    if "import" not in code or len(code) > MAX_PARSED:
        return []
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return sorted(found)[:MAX_IMPORTS]


def _target(shell: Any, tool: str) -> Target:
    names = getattr(shell, "user_ns", {})
    # Jupyter's server and Visual Studio Code say which notebook a kernel was started for.
    path = os.environ.get("JPY_SESSION_NAME") or names.get("__vsc_ipynb_file__") or names.get("__session__")
    if isinstance(path, str) and path:
        return Target("notebook", path[-_LONGEST:])
    return Target("notebook" if tool == "jupyter" else "shell", tool)


def _person() -> str:
    if hub := os.environ.get("JUPYTERHUB_USER"):
        return hub[:_LONGEST]
    try:
        return getpass.getuser()[:_LONGEST]
    except (OSError, KeyError, ImportError):  # a user id without a name, as containers have it
        return str(os.getuid())
