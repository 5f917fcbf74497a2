"""Class, message and stack of an error, as fields of a record."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Final

from mlaudit.capture.shorten import shortened, without_middle

if TYPE_CHECKING:
    from types import TracebackType

MAX_STACK: Final = 16_000
MAX_MESSAGE: Final = 2000


def unhandled_fields(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> dict[str, Any]:
    """``error.*`` of an unhandled error; the policy's redaction scrubs the texts."""
    return {
        "error.type": kind.__name__,
        "error.message": _message(error),
        "error.stack_trace": _stack(kind, error, trace),
    }


def _message(error: BaseException | None) -> str:
    try:
        return shortened(str(error), MAX_MESSAGE)
    except Exception:  # noqa: BLE001 - a foreign __str__
        return "its message cannot be shown"


def _stack(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> str:
    try:
        text = "".join(traceback.format_exception(kind, error, trace))
    except Exception:  # noqa: BLE001 - a foreign __str__ again
        text = "".join(traceback.format_tb(trace))
    # The end shows where it was raised, the beginning the calls that led there.
    return without_middle(text, MAX_STACK)
