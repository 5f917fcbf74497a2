"""Starlette's AuthenticationMiddleware: a backend that refuses a credential, whatever status answers it.

The authenticated user is read from the request's scope when the request ends; a refusal leaves nothing in the scope,
and Starlette answers it with 400.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.credentials import Failure
from mlaudit.capture.hooks import Hooks
from mlaudit.capture.web.authentication import rejected
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.libraries.starlette_authentication"


class StarletteAuthenticationIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "starlette-authentication"
    module: ClassVar[str] = "starlette.middleware.authentication"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks how the middleware handles an error of its backend."""
        from starlette.middleware.authentication import AuthenticationMiddleware

        if not self._hooks.are_set:
            self._hooks.around(AuthenticationMiddleware, "__init__", _made)

    def uninstrument(self) -> None:
        """Restores the original; a middleware that was created meanwhile keeps recording."""
        self._hooks.undo()


def _made(_current: Pipeline, call: Call) -> Audit:
    outcome = yield
    if outcome.error is None:
        call.instance.on_error = _reporting(call.instance.on_error)


def _reporting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def on_error(connection: Any, error: Exception) -> Any:
        pipeline = current.pipeline()
        if pipeline is not None:
            try:
                rejected(pipeline, Failure("", type(error).__name__, "the credential was not accepted"))
            except Exception as fault:  # noqa: BLE001 - auditing never breaks the service
                pipeline.fault(COMPONENT, fault)
        return original(connection, error)

    return on_error
