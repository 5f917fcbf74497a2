"""Finds the code that caused an audit event of the runtime: the program's, a library's, or mlaudit's own."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from types import CodeType, FrameType

MAX_FRAMES: Final = 500
MAX_MODULES: Final = 30
_STDLIB: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - compared as text with what code objects hold
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
# The modules that implement the runtime hooks: their frames are above the code that caused the event.
HOOKS: Final = frozenset(
    f"mlaudit.capture.process.{name}"
    for name in (
        "audit_hooks",
        "caller",
        "debugging",
        "deserialization",
        "error_reports",
        "subprocesses",
        "watched_paths",
    )
)
# Below them the program's own code runs; everything else outside of ``mlaudit.capture`` is the pipeline at work.
_ENTRANCES: Final = ("mlaudit.api", "mlaudit.ipython", "mlaudit.testing")
_PROGRAM: Final = "program"
_LIBRARY: Final = "library"
_STANDARD: Final = "standard library"


class Caller(NamedTuple):
    """The code that caused an event.

    Attributes:
        modules: names of the modules nearest to the event, the nearest first, without mlaudit's own.
        frame: the nearest frame.
        fields: ``code.*`` of the nearest frame of the program itself, else of a library; empty where there is neither.
    """

    modules: tuple[str, ...]
    frame: FrameType | None
    fields: dict[str, Any]


def caller() -> Caller | None:
    """The code that caused the event that is being handled; None when mlaudit itself did.

    Frames of a hook that pass a library's call on are ignored. While
    the pipeline is at work nothing may be recorded: it may hold the lock that a record needs.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - its documented name
    while frame is not None and frame.f_globals.get("__name__") in HOOKS:
        frame = frame.f_back
    modules: list[str] = []
    nearest = frame
    found: dict[str, FrameType] = {}
    passed = False
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        name = frame.f_globals.get("__name__") or ""
        if name.startswith("mlaudit.") or name == "mlaudit":
            if not name.startswith("mlaudit.capture.") and name not in _ENTRANCES:
                return None
            if not passed and frame.f_code.co_name != "wrapper":
                return None
        elif not name.startswith("wrapt."):  # its import hooks lie between an import and the importing code
            whose = _whose(frame.f_code.co_filename)
            passed = passed or whose != _STANDARD
            found.setdefault(whose, frame)
            if len(modules) < MAX_MODULES:
                modules.append(name)
        frame = frame.f_back
    shown = found.get(_PROGRAM) or found.get(_LIBRARY)
    return Caller(tuple(modules), nearest, code_fields(shown.f_code, shown.f_lineno) if shown else {})


def code_fields(code: CodeType, line: int | None) -> dict[str, Any]:
    """``code.*`` of a place in the code."""
    fields: dict[str, Any] = {"code.function.name": code.co_qualname, "code.file.path": code.co_filename}
    if line is not None:
        fields["code.line.number"] = line
    return fields


@lru_cache(maxsize=2048)
def _whose(filename: str) -> str:
    if any(part in filename for part in _INSTALLED):
        return _LIBRARY
    if filename.startswith((_STDLIB, "<frozen ")):
        return _STANDARD
    return _PROGRAM
