"""Starlette, and with it FastAPI: every application's requests go through ``audited``."""

from __future__ import annotations

import functools
from typing import Any, Final

from mlaudit.capture.telemetry.sdk_start import Starter
from mlaudit.capture.web.asgi import audited

ORIGINAL: Final = "_mlaudit_original"


class StarletteIntegration:
    """Replaces ``Starlette.__call__``, through which a FastAPI application goes too."""

    name = "starlette"
    module = "starlette.applications"

    def instrument(self) -> None:
        """Sets the hook."""
        from starlette.applications import Starlette

        original = Starlette.__call__
        if hasattr(original, ORIGINAL):
            return
        starter = Starter()

        @functools.wraps(original)
        async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
            if not starter.done:
                starter.see(self, scope)
            await audited(functools.partial(original, self), scope, receive, send)

        setattr(call, ORIGINAL, original)
        Starlette.__call__ = call
        _hook_routes()

    def uninstrument(self) -> None:
        """Removes the hook."""
        from starlette.applications import Starlette

        original = getattr(Starlette.__call__, ORIGINAL, None)
        if original is not None:
            Starlette.__call__ = original
        from starlette.routing import Route

        handle = getattr(Route.handle, ORIGINAL, None)
        if handle is not None:
            Route.handle = handle


def _hook_routes() -> None:
    """Before 1.0 Starlette did not set the route of a request, as FastAPI always did (``scope["route"]``)."""
    import starlette
    from starlette.routing import Route

    original = Route.handle
    if not starlette.__version__.startswith("0.") or hasattr(original, ORIGINAL):
        return

    @functools.wraps(original)
    async def handle(self: Any, scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("route", self)
        await original(self, scope, receive, send)

    setattr(handle, ORIGINAL, original)
    Route.handle = handle
