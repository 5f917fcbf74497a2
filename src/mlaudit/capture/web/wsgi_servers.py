"""WSGI servers report neither the start nor the shutdown of a service: their serving loops are hooked instead.

The trail begins before the first request, and the end of the loop is the end of the service. Workers that are killed
by the signal itself are recorded by ``lifecycle``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, ClassVar, Final

from mlaudit.capture import request_context
from mlaudit.capture.hooks import Hooks

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.wsgi_servers"
# ASGI workers are left to the lifespan of their applications.
_WSGI_WORKERS: Final = frozenset(
    {"SyncWorker", "ThreadWorker", "GeventWorker", "EventletWorker", "TornadoWorker"}
)


class GunicornIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "gunicorn"
    module: ClassVar[str] = "gunicorn.workers.base"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the loading of a worker's application.

        Not the worker's whole lifetime: a trail that starts before the worker handles signals makes the worker miss a
        SIGTERM that arrives in the meantime. The worker ends with the interpreter.
        """
        if self._hooks.are_set:
            return
        worker = importlib.import_module(self.module).Worker
        self._hooks.around(worker, "load_wsgi", _loaded, when=_serves_wsgi)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        self._hooks.undo()


class WaitressIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "waitress"
    module: ClassVar[str] = "waitress.server"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the loops of its servers."""
        if self._hooks.are_set:
            return
        server = importlib.import_module(self.module)
        self._hooks.around(server.BaseWSGIServer, "run", served)
        self._hooks.around(server.MultiSocketServer, "run", served)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        self._hooks.undo()


class WerkzeugIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "werkzeug"
    module: ClassVar[str] = "werkzeug.serving"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the loop of the development server."""
        from werkzeug.serving import BaseWSGIServer

        if not self._hooks.are_set:
            self._hooks.around(BaseWSGIServer, "serve_forever", served)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        self._hooks.undo()


def served(_current: Pipeline, _call: Call) -> Audit:
    """The audit of a serving loop."""
    request_context.service_started()
    yield
    request_context.service_stopping()


def _serves_wsgi(call: Call) -> bool:
    return any(base.__name__ in _WSGI_WORKERS for base in type(call.instance).__mro__)


def _loaded(_current: Pipeline, _call: Call) -> Audit:
    outcome = yield
    if outcome.error is None:
        request_context.service_started()
