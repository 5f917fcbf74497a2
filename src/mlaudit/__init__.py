"""ML audit logging on OpenTelemetry: who did what to which model, sealed, durable and provable.

Nothing needs to be called: ``MLAUDIT_ENABLED=true`` audits a service or a job as it is. For what cannot be seen
from outside there are ``record``, ``actor``, ``purpose`` and ``training_run``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlaudit._version import __version__

if TYPE_CHECKING:
    from mlaudit.api import actor, purpose, record, training_run

__all__ = ["__version__", "actor", "purpose", "record", "training_run"]


def __getattr__(name: str) -> Any:
    if name in ("actor", "purpose", "record", "training_run"):
        from mlaudit import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
