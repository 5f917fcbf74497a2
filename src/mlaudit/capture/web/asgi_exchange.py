"""One ASGI request and its response; the step numbers are those of the module ``asgi``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace

from mlaudit.capture.web.asgi_refusal import answer_refusal, discard
from mlaudit.capture.web.http_body import OFFLOAD_BYTES, in_thread
from mlaudit.capture.web.http_exchange import ERROR, NO_BODY, HttpExchange, handled_exception
from mlaudit.capture.web.http_record import outcome_of
from mlaudit.errors import AuditRefusedError, UnconfirmedError
from mlaudit.event import FAILURE, UNKNOWN

if TYPE_CHECKING:
    from mlaudit.pipeline.pipeline import Pipeline

Message = MutableMapping[str, Any]

COMPONENT: Final = "asgi"


class Exchange(HttpExchange):
    """One request and its response, recorded while they are transferred."""

    component = COMPONENT
    _bodiless = False
    _disconnected = False
    _start: Message | None = None

    def __init__(
        self,
        pipeline: Pipeline,
        mapped: str | None,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Takes the request; ``mapped`` is the kind that the policy gives its path, None when it gives none."""
        headers = scope["headers"]
        if isinstance(headers, Iterator):  # the application must still be able to read it
            scope["headers"] = headers = list(headers)
        super().__init__(pipeline, mapped, scope, headers)
        self._receive = receive
        self._forward = send
        self._root: str = scope.get("root_path", "")

    async def receive(self) -> Message:
        """Passes a message to the application, and records the request body in it."""
        message = await self._receive()
        if self.recorded:
            return message
        try:
            if message["type"] == "http.request":
                chunk = message.get("body")
                if chunk:
                    if len(chunk) > OFFLOAD_BYTES:
                        await in_thread(self.add_request, chunk)
                    else:
                        self.add_request(chunk)
                self.request_complete = not message.get("more_body", False)
            elif message["type"] == "http.disconnect":
                self._disconnected = True
        except Exception as error:  # noqa: BLE001 - contained
            self._pipeline.fault(COMPONENT, error)
        return message

    async def send(self, message: Message) -> None:
        """Passes a message of the application on, the last one only after the record is stored."""
        if self.recorded:
            if not self.refused:
                await self._forward(message)
            return
        try:
            kind = message["type"]
            more = message.get("more_body", False)
            chunk = message.get("body")
            long = type(chunk) is bytes and len(chunk) > OFFLOAD_BYTES
        except Exception as error:  # noqa: BLE001 - contained: the server rejects an invalid message
            self._pipeline.fault(COMPONENT, error)
            await self._forward(message)
            return
        if kind == "http.response.body":
            last = not more
            if self._bodiless:
                last = True
            elif chunk:
                last = (
                    await in_thread(self.add_response, chunk) if long else self.add_response(chunk)
                ) or last
        elif kind == "http.response.start":
            await self._release()  # the server rejects a second start
            self._note_start(message)
            if not self._begun:
                self._start = message  # 2
                return
            await self._forward(message)
            return
        elif kind == "http.response.pathsend":
            last = True
        elif kind == "http.response.zerocopysend":
            last = not more
        else:  # server push, early hints, trailers: no content, but their order matters
            await self._release()
            await self._forward(message)
            return
        if last and not await self._record_answer():
            return
        self._begun = True
        await self._release()
        await self._forward(message)  # 4

    async def _release(self) -> None:
        held, self._start = self._start, None
        if held is not None:
            self._begun = True
            await self._forward(held)

    def break_off(self, error: BaseException | None) -> None:
        """Records an exchange whose application ended without a complete answer, by an exception or not."""
        if self.recorded:
            return
        outcome, name = FAILURE, ""
        if isinstance(error, asyncio.CancelledError):
            outcome, reason = UNKNOWN, "the request was cancelled"
        elif error is not None:
            name, reason = type(error).__name__, "the application raised"
        elif self._disconnected:
            outcome, reason = UNKNOWN, "the client disconnected before the end of the response"
        else:
            reason = "the application returned without a complete response"
        if outcome == FAILURE and not self._begun:
            self.status = 500  # nothing has gone out, and this is what servers answer then
        self.end(outcome, name, reason)

    async def _record_answer(self) -> bool:
        """Stores the record of a complete answer; returns whether the answer may go out."""
        status = self.status
        error = (handled_exception() or self.scope.get(ERROR, "")) if status >= 500 else ""
        try:
            emitted = self.emit(outcome_of(status), error, "")
            if emitted is None:
                return True
            refuse = False
            for receipt, decision in emitted:
                stored = decision.guarantee != "durable" or await receipt.wait_async()  # 3
                refuse = refuse or (not stored and decision.on_failure == "refuse")
            if not refuse:
                return True
            refused = str(UnconfirmedError())
        except AuditRefusedError as reason:
            refused = str(reason)
        except Exception as fault:  # noqa: BLE001 - contained: an event loop other than asyncio's
            self._pipeline.fault(COMPONENT, fault)
            return True
        if self._begun:
            self.refused = refused
            raise AuditRefusedError(refused)  # the server breaks the connection off
        await answer_refusal(self._forward)
        self._forward = discard  # further messages of the application belong to the refused answer
        return False

    def route(self) -> str:
        """See ``route_of``."""
        return route_of(self.scope, self._root)

    def _note_start(self, message: Message) -> None:
        try:
            status = message["status"]
            self.status = status if isinstance(status, int) else 0
            self._span = trace.get_current_span()
            headers = message.get("headers") or ()
            if isinstance(headers, Iterator):
                message["headers"] = headers = list(headers)
            self.response_headers = headers
            self._bodiless = status in NO_BODY or self.scope["method"] == "HEAD"
            for name, value in headers:
                if name == b"content-length" or name.lower() == b"content-length":
                    self._expected = int(value)
                    return
            # Without a length the end is a message of its own, so the client need not wait for the headers.
            self._begun = not self._bodiless and not self._pipeline.policy.can_refuse
        except Exception as error:  # noqa: BLE001 - contained
            self._pipeline.fault(COMPONENT, error)


def route_of(scope: Mapping[str, Any], root: str) -> str:
    """The route's template with the prefixes of mounts and routers, or "" when nothing matched.

    ``root`` is ``root_path`` as it was before routing.
    """
    route = scope.get("route")
    if route is None:
        return ""
    own = scope.get("fastapi")
    if own:  # FastAPI with nested routers: the route itself does not contain the prefixes of its routers
        context = own.get("effective_route_context")
        route = route if context is None or context.original_route is not route else context
    path: str | None = getattr(route, "path_format", None) or getattr(route, "path", None)
    if path is None:
        return ""
    now: str = scope.get("root_path", "")
    return now[len(root) :] + path if len(now) > len(root) and now.startswith(root) else path
