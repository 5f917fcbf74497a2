"""gRPC servers: every call is recorded, before a unary answer or the end of a stream goes out.

Every new server gets mlaudit's interceptor in front of its own ones, so that their refusals are recorded as well. A
fault of ours is contained. Calls that the policy lets happen only when they are recorded are answered UNAVAILABLE while
nothing can be.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Hooks
from mlaudit.capture.request_context import current_request
from mlaudit.capture.web.grpc_exchange import (
    CANCELLED,
    COMPONENT,
    INTERNAL,
    UNIMPLEMENTED,
    Context,
    GrpcExchange,
    check,
)
from mlaudit.capture.web.http_exchange import refused_kind
from mlaudit.errors import AuditRefusedError
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

REFUSED: Final = (
    "the audit record of this call could not be stored, "
    "and the audit policy does not allow an unrecorded call"
)
_INTERCEPTORS: Final = 2  # the position of the argument, of both kinds of server


class GrpcIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "grpc"
    module: ClassVar[str] = "grpc"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the making of servers; servers that exist already stay as they are."""
        import grpc
        import grpc.aio

        if self._hooks.are_set:
            return
        self._hooks.around(grpc, "server", _made)
        self._hooks.around(grpc.aio, "server", _made_async)

    def uninstrument(self) -> None:
        """Puts the originals back; a server that was made meanwhile stays audited."""
        self._hooks.undo()


def _made(_current: Pipeline, call: Call) -> Audit:
    given = call.argument(_INTERCEPTORS, "interceptors") or ()
    call.pass_on(_INTERCEPTORS, "interceptors", (interceptor(), *given))
    yield


def _made_async(_current: Pipeline, call: Call) -> Audit:
    given = call.argument(_INTERCEPTORS, "interceptors") or ()
    call.pass_on(_INTERCEPTORS, "interceptors", (async_interceptor(), *given))
    yield


def interceptor() -> Any:
    """A ``grpc.ServerInterceptor`` that audits; for servers that are made in another way."""
    import grpc

    class AuditInterceptor(grpc.ServerInterceptor):  # type: ignore[misc,unused-ignore]
        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            begun = _begin(details)
            if begun is None:
                return continuation(details)
            exchange, refused = begun
            token = current_request.set(exchange.trail)
            try:
                handler = continuation(details)
            except BaseException as error:
                exchange.ended(error, code=INTERNAL)
                raise
            finally:
                current_request.reset(token)
            return _audited(exchange, handler, refused, _sync)

    return AuditInterceptor()


def async_interceptor() -> Any:
    """A ``grpc.aio.ServerInterceptor`` that audits; for servers that are made in another way."""
    import grpc.aio

    class AsyncAuditInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
        async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            begun = _begin(details)
            if begun is None:
                return await continuation(details)
            exchange, refused = begun
            token = current_request.set(exchange.trail)
            try:
                handler = await continuation(details)
            except BaseException as error:
                exchange.ended(error, code=INTERNAL)
                raise
            finally:
                current_request.reset(token)
            return _audited(exchange, handler, refused, _async)

    return AsyncAuditInterceptor()


def _begin(details: Any) -> tuple[GrpcExchange, bool] | None:
    """The exchange of a call and whether it must not happen; None where it is not audited."""
    pipeline = current.pipeline()
    if pipeline is None:
        return None
    try:
        kind = pipeline.policy.route_kind("POST", details.method)
        if kind == "":
            return None
        refused = refused_kind(pipeline, kind, details.method) if pipeline.policy.can_refuse else None
        if refused is not None:
            pipeline.refuse(refused)
        return GrpcExchange(pipeline, kind, details), refused is not None
    except Exception as error:  # noqa: BLE001 - contained: the call goes on
        pipeline.fault(COMPONENT, error)
        return None


def _audited(exchange: GrpcExchange, handler: Any, refused: bool, wrap: Callable[..., Any]) -> Any:
    """The handler that the server gets: the program's own, watched."""
    import grpc

    if handler is None:  # the server answers UNIMPLEMENTED
        exchange.ended(code=UNIMPLEMENTED)
        return None
    request, response = handler.request_streaming, handler.response_streaming
    shape = f"{'stream' if request else 'unary'}_{'stream' if response else 'unary'}"
    behavior = getattr(handler, shape)
    if refused:
        exchange.recorded = True
        behavior = _refuse if not inspect.iscoroutinefunction(behavior) and wrap is _sync else _refuse_async
        return getattr(grpc, f"{shape}_rpc_method_handler")(behavior)
    watched, serialize = wrap(exchange, behavior, handler.response_streaming, handler.response_serializer)
    make = getattr(grpc, f"{shape}_rpc_method_handler")
    return make(watched, exchange.reading(handler.request_deserializer), serialize)


def _refuse(_request: Any, context: Any) -> Any:
    import grpc

    context.abort(grpc.StatusCode.UNAVAILABLE, REFUSED)


async def _refuse_async(_request: Any, context: Any) -> Any:
    import grpc

    await context.abort(grpc.StatusCode.UNAVAILABLE, REFUSED)


class _Serialized(bytes):
    """A message that is serialized already, so that the record is stored before the server sends it."""


def _writer(exchange: GrpcExchange, serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    def write(message: Any) -> bytes:
        if type(message) is _Serialized:
            return bytes(message)
        raw: bytes = message if serialize is None else serialize(message)
        exchange.add_response(raw)
        return raw

    return write


def _serialized(write: Callable[[Any], bytes], message: Any) -> Any:
    """The message as it goes out; the message itself if it cannot be serialized: the server then reports the error."""
    try:
        return _Serialized(write(message))
    except Exception:  # noqa: BLE001 - the server reports it
        return message


def _sync(
    exchange: GrpcExchange,
    behavior: Callable[..., Any],
    streams: bool,
    serialize: Callable[[Any], bytes] | None,
) -> tuple[Callable[..., Any], Callable[[Any], bytes]]:
    write = _writer(exchange, serialize)

    def unary(request: Any, context: Any) -> Any:
        response = _answer(exchange, behavior, request, context)
        message = _serialized(write, response)
        if message is response:
            exchange.ended(code=INTERNAL)
        else:
            _settle(exchange, context)
        return message

    def stream(request: Any, context: Any) -> Iterator[Any]:
        return _pieces(exchange, _answer(exchange, behavior, request, context), context)

    return (stream if streams else unary), write


def _answer(exchange: GrpcExchange, behavior: Callable[..., Any], request: Any, context: Any) -> Any:
    """Calls the program's own method within its request."""
    exchange.begin(context)
    token = current_request.set(exchange.trail)
    try:
        return behavior(request, context)
    except BaseException as error:
        exchange.ended(error)
        raise
    finally:
        current_request.reset(token)


def _pieces(exchange: GrpcExchange, answer: Any, context: Any) -> Iterator[Any]:
    try:
        while True:
            # A generator of the program runs in the context of the code that requests its next message.
            token = current_request.set(exchange.trail)
            try:
                message = next(answer)
            except StopIteration:
                break
            except BaseException as error:
                exchange.ended(error)
                raise
            finally:
                current_request.reset(token)
            yield message
        _settle(exchange, context)
    finally:
        exchange.ended(code=CANCELLED)  # the client disconnected, if nothing else was recorded


def _settle(exchange: GrpcExchange, context: Any) -> None:
    import grpc

    try:
        for receipt, decision in exchange.answered():
            check(decision.guarantee != "durable" or receipt.wait(), decision)
    except AuditRefusedError:
        context.abort(grpc.StatusCode.UNAVAILABLE, REFUSED)


def _async(
    exchange: GrpcExchange,
    behavior: Callable[..., Any],
    streams: bool,
    serialize: Callable[[Any], bytes] | None,
) -> tuple[Callable[..., Any], Callable[[Any], bytes]]:
    if inspect.isasyncgenfunction(behavior):
        return _async_pieces(exchange, behavior), _writer(exchange, serialize)
    if not inspect.iscoroutinefunction(behavior):  # runs in the server's thread pool
        watched, write = _sync(exchange, behavior, streams, serialize)
        return (lambda request, context: watched(request, Context(exchange, context))), write
    write = _writer(exchange, serialize)

    async def run(request: Any, context: Any) -> Any:
        context = Context(exchange, context)
        exchange.begin(context)
        token = current_request.set(exchange.trail)
        try:
            response = await behavior(request, context)
        except BaseException as error:
            exchange.ended(error)
            raise
        finally:
            current_request.reset(token)
        message = response if streams else _serialized(write, response)  # a stream was written to the context
        if message is response and not streams:
            exchange.ended(code=INTERNAL)
        else:
            await _settle_async(exchange, context)
        return message

    return run, write


def _async_pieces(exchange: GrpcExchange, behavior: Callable[..., Any]) -> Callable[..., Any]:
    async def run(request: Any, context: Any) -> Any:
        context = Context(exchange, context)
        exchange.begin(context)
        # The server runs each call in a task of its own, so this ends with it.
        current_request.set(exchange.trail)
        try:
            async for message in behavior(request, context):
                yield message
        except BaseException as error:
            exchange.ended(error)
            raise
        await _settle_async(exchange, context)

    return run


async def _settle_async(exchange: GrpcExchange, context: Any) -> None:
    import grpc

    try:
        for receipt, decision in exchange.answered():
            check(decision.guarantee != "durable" or await receipt.wait_async(), decision)
    except AuditRefusedError:
        await context.abort(grpc.StatusCode.UNAVAILABLE, REFUSED)
