"""Pickles that contain more than data (see ``dangerous_names``): ``audit.runtime.deserialized``.

The runtime reports every name that any unpickler looks up: of pickle and of libraries that use it, such as joblib,
``numpy.load(allow_pickle=True)``, ``pandas.read_pickle`` and ``torch.load``. The record is with the operating system
before the unpickler gets the object, and with ``on_failure: refuse`` it does not get an unrecorded one.

Messages between processes of one program (multiprocessing, concurrent.futures, joblib's loky) are not recorded: the
sender can run any code in the receiver anyway.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any, Final

from mlaudit.capture.process import audit_hooks
from mlaudit.capture.process.caller import caller
from mlaudit.capture.process.dangerous_names import is_dangerous
from mlaudit.catalog.names import RUNTIME_DESERIALIZED
from mlaudit.event import AuditEvent, Target
from mlaudit.safety.rate_limit import RateLimit

EVENT: Final = "pickle.find_class"
MAX_NAME: Final = 300
# One pickle may contain many names; the first ones are sufficient.
MAX_DIFFERENT: Final = 50
_MAX_VERDICTS: Final = 10_000
_UNPICKLERS: Final = ("pickle", "_pickle", "copyreg")
_BETWEEN_PROCESSES: Final = ("multiprocessing.", "concurrent.futures.", "joblib.externals.loky.", "loky.")

current_file: Final[ContextVar[str]] = ContextVar("mlaudit_unpickled_file", default="")
"""The path of the file that a hooked library is reading, "" when it is unknown."""

# Only harmless names: most of them occur again and again.
_harmless: Final[set[tuple[Any, ...]]] = set()
_repeats: Final[RateLimit[tuple[Any, ...]]] = RateLimit()
_budget: Final[RateLimit[tuple[Any, ...]]] = RateLimit(MAX_DIFFERENT)


def install() -> None:
    """Starts to listen."""
    audit_hooks.handle({EVENT: _on_find_class}, _harmless)


def _on_find_class(event: str, args: tuple[Any, ...]) -> None:
    module, name = str(args[0]), str(args[1])
    if not is_dangerous(module, name):
        if len(_harmless) >= _MAX_VERDICTS:
            _harmless.clear()
        # For a module that was not imported yet only the name was checked.
        if module in sys.modules and len(module) + len(name) <= MAX_NAME:
            _harmless.add((module, name))
        return
    found = caller()
    if found is None:
        return
    reader = next((one for one in found.modules if one not in _UNPICKLERS), "")
    if reader.startswith(_BETWEEN_PROCESSES):
        return
    file = current_file.get()
    place = tuple(found.fields.values())
    detail = f"{module}.{name}"[:MAX_NAME]
    if (before := _repeats.due((detail, file, place))) is None:
        return
    if (left := _budget.left((file, place))) < 0:
        return
    fields: dict[str, Any] = {"audit.runtime.event": event, "audit.runtime.detail": detail, **found.fields}
    if file:
        fields["ml.model.path"] = file
    if before:
        fields["event.reason"] = f"and {before} times more since the last record of it"
    elif left == 0:
        fields["event.reason"] = (
            f"the last of {MAX_DIFFERENT} names at this place that are recorded within a minute"
        )
    audit_hooks.record_event(
        AuditEvent(RUNTIME_DESERIALIZED, target=Target("callable", detail), fields=fields),
        begins=True,
        before=True,
    )
