"""Programs that a serving process starts: ``audit.runtime.process.started``.

A job may start any program. A service that answers requests and starts a program is a security event, which is
recorded. Python's own workers (multiprocessing, joblib) are not programs and are not recorded.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, Final

from mlaudit.capture.process import audit_hooks, lifecycle
from mlaudit.capture.process.caller import caller
from mlaudit.capture.shorten import shortened
from mlaudit.catalog.names import RUNTIME_PROCESS_STARTED
from mlaudit.event import FAILURE, SUCCESS, AuditEvent, Target

MAX_COMMAND: Final = 4096
MAX_ARGUMENTS: Final = 1000
EVENTS: Final = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn")
_SHELL: Final = "/bin/sh"


def install() -> None:
    """Starts to listen."""
    audit_hooks.handle(dict.fromkeys(EVENTS, _on_started))


def _on_started(event: str, args: tuple[Any, ...]) -> None:
    if not lifecycle.serves():
        return
    found = caller()
    # subprocess has already reported what it then starts with posix_spawn.
    if found is None or (event == "os.posix_spawn" and found.modules[:1] == ("subprocess",)):
        return
    program, command, folder = _described(event, args)
    fields = {
        "audit.runtime.event": event,
        "process.command_line": shortened(command, MAX_COMMAND),
        "process.working_directory": folder,
        **found.fields,
    }
    present = {name: value for name, value in fields.items() if value != ""}
    # The event comes before the attempt: whether it can succeed is seen from the program's file.
    outcome = SUCCESS if shutil.which(program) else FAILURE
    audit_hooks.record_event(
        AuditEvent(RUNTIME_PROCESS_STARTED, outcome, target=Target("process", program), fields=present),
        before=True,
    )


def _described(event: str, args: tuple[Any, ...]) -> tuple[str, str, str]:
    """Program, command line and working directory of an event, "" where they are unknown."""
    if event == "os.system":
        return _SHELL, _text(args[0]), ""
    if event == "pty.spawn":
        arguments = _arguments(args[0])
        return (arguments[0] if arguments else "", " ".join(arguments), "")
    if event == "os.spawn":  # mode, path, arguments, environment
        args = args[1:]
    arguments = _arguments(args[1])
    program = _text(args[0]) if args[0] is not None else (arguments[0] if arguments else "")
    folder = _text(args[2]) if event == "subprocess.Popen" and args[2] is not None else ""
    return program, " ".join(arguments), folder


def _arguments(value: Any) -> list[str]:
    if isinstance(value, str | bytes | os.PathLike):
        return [_text(value)]
    return [_text(one) for one in tuple(value)[:MAX_ARGUMENTS]]


def _text(value: Any) -> str:
    try:
        return os.fsdecode(value)
    except TypeError:
        return f"({type(value).__name__})"
