"""Sets context variables, and finds the pipeline without importing it needlessly."""

from __future__ import annotations

import sys
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mlaudit.settings import is_enabled

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

_T = TypeVar("_T")


class Setting(Generic[_T]):
    """Sets a context variable and restores it, also where enter and leave run in different contexts.

    A generator dependency of a web framework is entered in one thread and left in another.
    """

    def __init__(self, variable: ContextVar[_T | None]) -> None:
        self._variable = variable
        self._tokens: list[Token[_T | None]] = []

    def set(self, value: _T) -> None:
        """Sets the variable in this context."""
        self._tokens.append(self._variable.set(value))

    def restore(self) -> None:
        """Reverts the latest ``set``."""
        if not self._tokens:
            return
        token = self._tokens.pop()
        try:
            self._variable.reset(token)
        except ValueError:
            before = token.old_value
            self._variable.set(None if before is Token.MISSING else before)


def current_pipeline() -> Pipeline | None:
    """The pipeline; a process that is not audited does not even import it."""
    module: Any = sys.modules.get("mlaudit.pipeline.current")
    if module is None:
        if not is_enabled():
            return None
        from mlaudit.pipeline import current as module
    pipeline: Pipeline | None = module.pipeline()
    return pipeline
