"""One HTTP exchange as it goes by; the numbers are those of the module ``asgi``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace

from mlaudit.capture.asgi_actor import ANONYMOUS, find_actor
from mlaudit.capture.asgi_body import OFFLOAD_BYTES, Body, in_thread
from mlaudit.capture.asgi_record import (
    CONFIG_CHANGED,
    REQUEST,
    Answer,
    add_config_change,
    add_contents,
    event_of,
    kind_of,
    outcome_of,
    route_of,
)
from mlaudit.capture.asgi_refusal import answer_refusal, discard
from mlaudit.capture.asgi_trace import mark_span, trace_ids
from mlaudit.capture.interface import RequestTrail
from mlaudit.errors import AuditRefusedError, UnconfirmedError
from mlaudit.event import FAILURE, UNKNOWN

if TYPE_CHECKING:
    from mlaudit.event import AuditEvent
    from mlaudit.pipeline import Pipeline
    from mlaudit.policy.evaluate import Decision

Message = MutableMapping[str, Any]

COMPONENT: Final = "asgi"
_NO_BODY: Final = frozenset({204, 304})
_INPUTS: Final = 2
_FULL: Final = 3


class Exchange(Answer):
    """One request and its response, as they go by.

    ``recorded`` is true once the record was made, or its making was tried; ``refused`` is then why an answer that
    had begun was broken off.
    """

    recorded = False
    refused = ""
    _begun = False
    _bodiless = False
    _disconnected = False
    _expected = -1
    _span: trace.Span = trace.INVALID_SPAN
    _start: Message | None = None

    def __init__(
        self,
        p: Pipeline,
        mapped: str | None,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Takes the request; ``mapped`` is the kind that the policy gives its path, None when it gives none."""
        self._started = perf_counter_ns()
        self._p = p
        self._mapped = mapped
        self.scope = scope
        self._receive = receive
        self._forward = send
        self._root: str = scope.get("root_path", "")
        headers = scope["headers"]
        # The first of several wins, as frameworks read it: a second Authorization must not change who it was.
        if isinstance(headers, Iterator):  # which the application must not find used up
            scope["headers"] = headers = list(headers)
        self.headers = dict(reversed(headers if type(headers) is list else list(headers)))
        self.trail = RequestTrail()

    async def receive(self) -> Message:
        """Passes a message to the application, and takes note of the request body in it."""
        message = await self._receive()
        if self.recorded:
            return message
        try:
            if message["type"] == "http.request":
                chunk = message.get("body")
                if chunk:
                    if self.request is None:
                        wanted = self._p.policy.deepest >= _INPUTS or self._mapped == CONFIG_CHANGED
                        self.request = Body(self._p.settings.body_limit if wanted else 0)
                    if len(chunk) > OFFLOAD_BYTES:
                        await in_thread(self.request.add, chunk)
                    else:
                        self.request.add(chunk)
                self.request_complete = not message.get("more_body", False)
            elif message["type"] == "http.disconnect":
                self._disconnected = True
        except Exception as error:  # noqa: BLE001 - contained
            self.request = None
            self._p.fault(COMPONENT, error)
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
        except Exception as error:  # noqa: BLE001 - contained: what is no message is the server's to refuse
            self._p.fault(COMPONENT, error)
            await self._forward(message)
            return
        if kind == "http.response.body":
            last = not more
            if self._bodiless:
                last = True
            elif chunk:
                last = (await in_thread(self._add, chunk) if long else self._add(chunk)) or last
        elif kind == "http.response.start":
            await self._release()  # a second beginning is the server's to refuse
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
        else:  # server push, early hints, trailers: nothing of the content, but in their order
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
        try:
            if not self._span.get_span_context().is_valid:
                self._span = trace.get_current_span()
            self._emit(outcome, name, reason)
        except AuditRefusedError:
            return  # counted by the pipeline; there is no answer to hold back

    async def _record_answer(self) -> bool:
        """Stores the record of a complete answer; returns whether the answer may go out."""
        status = self.status
        error = _handled_exception() if status >= 500 else ""
        try:
            emitted = self._emit(outcome_of(status), error, "")
            if emitted is None:
                return True
            receipt, _, decision = emitted
            if decision.guarantee != "durable" or await receipt.wait_async():  # 3
                return True
            if decision.on_failure != "refuse":
                return True
            refused = str(UnconfirmedError())
        except AuditRefusedError as reason:
            refused = str(reason)
        except Exception as fault:  # noqa: BLE001 - contained: an event loop other than asyncio's
            self._p.fault(COMPONENT, fault)
            return True
        if self._begun:
            self.refused = refused
            raise AuditRefusedError(refused)  # the server breaks the connection off
        await answer_refusal(self._forward)
        self._forward = discard  # what else the application sends is of the answer that was refused
        return False

    def _emit(self, outcome: str, error: str, reason: str) -> tuple[Any, AuditEvent, Decision] | None:
        """Makes the record; None when there is none to wait for.

        Raises:
            AuditRefusedError: it could not be stored, and the policy says refuse. Nothing else.
        """
        self.recorded = self.trail.closed = True
        try:
            described = self._describe(outcome, error, reason)
        except Exception as fault:  # noqa: BLE001 - contained: a record without what could not be found out
            fields = {"http.request.method": self.scope["method"], "http.response.status_code": self.status}
            self._p.fault(COMPONENT, fault, kind=self._mapped or REQUEST, fields=fields, outcome=outcome)
            return None
        if described is None:
            return None
        event, decision = described
        receipt = self._p.emit(event, decision, wait=False)
        try:
            if self._span.is_recording():
                mark_span(self._span, event, decision)
        except Exception as fault:  # noqa: BLE001 - contained
            self._p.fault(COMPONENT, fault)
        return receipt, event, decision

    def _describe(self, outcome: str, error: str, reason: str) -> tuple[AuditEvent, Decision] | None:
        p, scope, trail = self._p, self.scope, self.trail
        route = trail.route = route_of(scope, self._root)
        mapped = self._mapped
        if mapped is None and "{" in route:
            mapped = p.policy.route_kind(scope["method"], route)
            if mapped == "":
                return None
        kind = trail.kind = kind_of(mapped, trail, self.status)
        actor = find_actor(scope, self.headers, trail, p.settings.actor_header, p.policy.pseudonyms.of)
        models = trail.models
        decision = p.decide(
            kind,
            route=route or scope["path"],
            model=models[-1].name if models else "",
            actor="" if actor is ANONYMOUS else actor.id,
        )
        if decision.level == 0:
            return None
        self.duration = perf_counter_ns() - self._started
        self.outcome, self.error, self.reason = outcome, error, reason
        event = event_of(kind, mapped, self, trail, actor)
        event.trace_id, event.span_id = trace_ids(self._span, self.headers)
        if kind == CONFIG_CHANGED:
            add_config_change(event, self, p.policy.change)
        if decision.level >= _INPUTS:
            add_contents(event, self, decision.level)
        return event, decision

    def _note_start(self, message: Message) -> None:
        try:
            status = message["status"]
            self.status = status if isinstance(status, int) else 0
            self._span = trace.get_current_span()
            headers = message.get("headers") or ()
            if isinstance(headers, Iterator):
                message["headers"] = headers = list(headers)
            self.response_headers = headers
            self._bodiless = status in _NO_BODY or self.scope["method"] == "HEAD"
            for name, value in headers:
                if name == b"content-length" or name.lower() == b"content-length":
                    self._expected = int(value)
                    return
            # Without a length the end is a message of its own, so the client need not wait for the headers.
            self._begun = not self._bodiless and not self._p.policy.can_refuse
        except Exception as error:  # noqa: BLE001 - contained
            self._p.fault(COMPONENT, error)

    def _add(self, chunk: bytes) -> bool:
        """Takes note of a piece of the response; returns whether the client has everything with it."""
        try:
            body = self.response
            if body is None:
                body = self.response = Body(
                    self._p.settings.body_limit if self._p.policy.deepest >= _FULL else 0
                )
            body.add(chunk)
            return body.size >= self._expected >= 0
        except Exception as error:  # noqa: BLE001 - contained
            self.response = None
            self._p.fault(COMPONENT, error)
            return False


def _handled_exception() -> str:
    # An error handler sends its answer from within ``except``: that is the exception the answer is about.
    error = sys.exception()
    return "" if error is None else type(error).__name__
