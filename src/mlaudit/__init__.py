"""ML audit logging on OpenTelemetry: who did what to which model, sealed, durable and provable.

Nothing needs to be called: ``MLAUDIT_ENABLED=true`` audits a service or a job as it is. For what cannot be seen
from outside there are ``record``, ``actor``, ``purpose`` and ``training_run``.

Public are the names in ``__all__`` and the modules ``mlaudit.testing`` and ``mlaudit.ipython``: see docs/api.md.
Every other module is private and may change in any release.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from mlaudit._version import __version__

if TYPE_CHECKING:
    from mlaudit.api import actor, purpose, record, training_run
    from mlaudit.capture.web.asgi import AsgiMiddleware
    from mlaudit.capture.web.wsgi import WsgiMiddleware
    from mlaudit.errors import AuditRefusedError, MlauditError, SignerError
    from mlaudit.event import Actor, Target
    from mlaudit.seal.checkpoint import Signer, VerifyingKey

__all__ = [
    "Actor",
    "AsgiMiddleware",
    "AuditRefusedError",
    "MlauditError",
    "Signer",
    "SignerError",
    "Target",
    "VerifyingKey",
    "WsgiMiddleware",
    "__version__",
    "actor",
    "purpose",
    "record",
    "training_run",
]

#: The module of each name, imported when the name is first used: ``import mlaudit`` alone loads nothing else.
_MODULES: Final = {
    "Actor": "mlaudit.event",
    "AsgiMiddleware": "mlaudit.capture.web.asgi",
    "AuditRefusedError": "mlaudit.errors",
    "MlauditError": "mlaudit.errors",
    "Signer": "mlaudit.seal.checkpoint",
    "SignerError": "mlaudit.errors",
    "Target": "mlaudit.event",
    "VerifyingKey": "mlaudit.seal.checkpoint",
    "WsgiMiddleware": "mlaudit.capture.web.wsgi",
    "actor": "mlaudit.api",
    "purpose": "mlaudit.api",
    "record": "mlaudit.api",
    "training_run": "mlaudit.api",
}


def __dir__() -> list[str]:
    return sorted(__all__)


# Type checkers must not see it: with a module-level __getattr__ they accept every misspelt name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            public = ", ".join(sorted(_MODULES))
            raise AttributeError(
                f"module 'mlaudit' has no attribute {name!r}; public are {public}, and the modules mlaudit.ipython "
                "and mlaudit.testing",
                name=name,
                obj=sys.modules[__name__],
            )
        from importlib import import_module

        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value
