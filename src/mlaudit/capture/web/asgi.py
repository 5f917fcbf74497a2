"""One record for each HTTP request of an ASGI application, written before the client has the whole answer.

The order that the promise rests on, numbered in the code here and in ``asgi_exchange``:

1. a request that the policy lets happen only when it is recorded is refused before the application runs, as long
   as nothing can be recorded;
2. the start of a response is held until its first body message, so that it can still become a 503;
3. the last message of a response is held until the record is stored (durable: until fsync);
4. every client that has the whole answer is therefore in the trail.

A fault of mlaudit is contained: the pipeline records it, and the request continues unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from mlaudit.capture import request_context
from mlaudit.capture.web.asgi_exchange import COMPONENT, Exchange
from mlaudit.capture.web.asgi_refusal import answer_refusal
from mlaudit.capture.web.http_body import in_thread
from mlaudit.capture.web.http_exchange import refused_kind
from mlaudit.errors import AuditRefusedError
from mlaudit.pipeline import current

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MARK: Final = "mlaudit"


class AsgiMiddleware:
    """Audits any ASGI 3.0 application; not needed for FastAPI and Starlette, which are audited as they are.

    ::

        app = mlaudit.AsgiMiddleware(app)

    A request that passes through two of them, or through one and an instrumented application, is recorded once.
    """

    def __init__(self, app: App) -> None:
        """Wraps an application.

        Args:
            app: called as ``await app(scope, receive, send)``.
        """
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application; HTTP requests are recorded, everything else passes through untouched.

        Args:
            scope: of the connection, as the server gives it.
            receive: gives the application the server's messages.
            send: gives the server the application's messages.

        Raises:
            AuditRefusedError: a streamed answer could not be recorded, and the policy says refuse. Besides that,
                what the application raises.
        """
        await audited(self.app, scope, receive, send)


async def audited(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs ``app`` and records the request.

    Raises:
        AuditRefusedError: a streamed answer could not be recorded, and the policy says refuse: the server then
            breaks the connection off. Besides that, what the application raises and nothing else.
    """
    # An instrumented application that is mounted in another carries the mark of the outer one.
    if scope["type"] != "http" or MARK in scope:
        await app(scope, receive, _lifespan(send) if scope["type"] == "lifespan" else send)
        return
    exchange = refused = None
    pipeline = current.pipeline()
    if pipeline is not None:
        try:
            kind = pipeline.policy.route_kind(scope["method"], scope["path"])
            if kind != "":  # "" is deliberately not audited
                if pipeline.policy.can_refuse:
                    refused = refused_kind(pipeline, kind, scope["path"])  # 1
                exchange = Exchange(pipeline, kind, scope, receive, send)
                scope[MARK] = True
        except Exception as error:  # noqa: BLE001 - contained: the request continues, and the fault is reported
            pipeline.fault(COMPONENT, error)
            exchange = None
        if refused is not None:
            pipeline.refuse(refused)
            await answer_refusal(send)
            return
    if exchange is None:
        await app(scope, receive, send)
        return
    token = request_context.current_request.set(exchange.trail)
    try:
        await app(scope, exchange.receive, exchange.send)
    except BaseException as error:
        exchange.break_off(error)
        raise
    finally:
        request_context.current_request.reset(token)
    if not exchange.recorded:
        exchange.break_off(None)
    if exchange.refused:
        raise AuditRefusedError(exchange.refused)


def _lifespan(send: Send) -> Send:
    async def observed(message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            # Before the server receives the message: the trail begins before the first request, not with it.
            await in_thread(request_context.service_started)
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"):
            await in_thread(request_context.service_stopping)
        await send(message)

    return observed
