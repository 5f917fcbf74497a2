"""One record for each request of a WSGI application, written before the client has the whole answer.

The promise is that of ``asgi``, and so is its order, numbered in the code here and in ``wsgi_exchange``:

1. a request that the policy lets happen only when it is recorded is refused before the application runs, as long
   as nothing can be recorded;
2. the status is held until the first piece of the answer, so that it can still become a 503;
3. the last piece of an answer is held until the record is stored (durable: until fsync). Which one is the last is
   known from ``Content-Length``, else from the end of the application's iterable;
4. every client that has the whole answer is therefore in the trail.

A fault of mlaudit is contained: the pipeline records it, and the request continues unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mlaudit.capture.web.http_exchange import refused_kind
from mlaudit.capture.web.http_refusal import HEADERS, PROBLEM
from mlaudit.capture.web.wsgi_exchange import COMPONENT, MARK, WsgiExchange
from mlaudit.capture.web.wsgi_request import path_of
from mlaudit.pipeline import current

Environ = dict[str, Any]
App = Callable[[Environ, Any], Iterable[bytes]]


class WsgiMiddleware:
    """Audits any WSGI application (PEP 3333); not needed for Flask and Django, which are audited as they are.

    ::

        app = mlaudit.WsgiMiddleware(app)

    A request that passes through two of them, or through one and an instrumented application, is recorded once.
    """

    def __init__(self, app: App) -> None:
        """Wraps an application.

        Args:
            app: called as ``app(environ, start_response)``.
        """
        self.app = app

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Runs the application and records the request.

        Args:
            environ: of the request, as the server gives it.
            start_response: takes the status and the headers of the answer.

        Returns:
            The pieces of the answer.

        Raises:
            AuditRefusedError: from the iterable, when a streamed answer could not be recorded and the policy says
                refuse. Besides that, what the application raises.
        """
        return audited(self.app, environ, start_response)


def audited(app: App, environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Runs ``app`` and records the request.

    Raises:
        AuditRefusedError: from the iterable, when a streamed answer could not be recorded and the policy says refuse:
            the server then breaks the connection off. Besides that, what the application raises and nothing else.
    """
    if MARK in environ:  # an instrumented application inside another
        return app(environ, start_response)
    exchange = refused = None
    pipeline = current.pipeline()
    if pipeline is not None:
        try:
            method, path = environ["REQUEST_METHOD"], path_of(environ)
            kind = pipeline.policy.route_kind(method, path)
            if kind != "":  # "" is deliberately not audited
                if pipeline.policy.can_refuse:
                    refused = refused_kind(pipeline, kind, path)  # 1
                exchange = WsgiExchange(pipeline, kind, path, environ, start_response)
        except Exception as error:  # noqa: BLE001 - contained: the request continues, and the fault is reported
            pipeline.fault(COMPONENT, error)
            exchange = None
        if refused is not None:
            pipeline.refuse(refused)
            start_response("503 Service Unavailable", list(HEADERS))
            return [PROBLEM]
    return app(environ, start_response) if exchange is None else exchange.serve(app)
