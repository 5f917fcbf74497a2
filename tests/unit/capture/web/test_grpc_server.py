"""gRPC servers under audit as they are, threaded and asyncio, with real calls."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

pytest.importorskip("grpc")
import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from mlaudit.capture.request_context import ModelUse, open_trail
from mlaudit.errors import SpoolFullError
from mlaudit.testing import AuditLog

Hooked = Callable[..., AbstractContextManager[AuditLog]]
KSERVE = "inference.GRPCInferenceService"
PREDICTION = "audit.ml.prediction"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
rules:
  - name: predictions
    match: {kind: audit.ml.prediction}
    level: metadata
    guarantee: durable
    on_failure: refuse
  - name: rest
    level: metadata
"""


def _message() -> Any:
    """KServe's request as far as it matters, without a compiler."""
    text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    file = descriptor_pb2.FileDescriptorProto(name="mlaudit_infer.proto", package="inference")
    kind = file.message_type.add(name="ModelInferRequest")
    for number, name in enumerate(("model_name", "model_version", "id"), 1):
        kind.field.add(name=name, number=number, type=text, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelInferRequest"))


Infer = _message()


def _answer(request: Any) -> bytes:
    trail = open_trail()
    if trail is not None:
        trail.models.append(ModelUse(rows=2))
    return f"{request.model_name}:{request.id}".encode()


def infer(request: Any, context: Any) -> bytes:
    """Answers, or ends in the way that the id asks for."""
    if request.id == "raise":
        raise LookupError("secret data")
    if request.id.isupper():
        context.abort(grpc.StatusCode[request.id], "secret data")
    if request.id == "set":
        context.set_code(grpc.StatusCode.NOT_FOUND)
    return _answer(request)


def infer_stream(requests: Any, _context: Any) -> Iterator[bytes]:
    """Answers each request."""
    for request in requests:
        yield _answer(request)


async def infer_async(request: Any, context: Any) -> bytes:
    """As ``infer``."""
    if request.id == "raise":
        raise LookupError("secret data")
    if request.id.isupper():
        await context.abort(grpc.StatusCode[request.id], "secret data")
    if request.id == "set":
        context.set_code(grpc.StatusCode.NOT_FOUND)
    return _answer(request)


async def infer_stream_async(requests: Any, _context: Any) -> Any:
    """As ``infer_stream``."""
    async for request in requests:
        yield _answer(request)


async def infer_writing(requests: Any, context: Any) -> None:
    """The other way to stream with asyncio."""
    async for request in requests:
        await context.write(_answer(request))


class Server:
    """A threaded server; ``call`` asks it."""

    infer: Any = staticmethod(infer)
    stream: Any = staticmethod(infer_stream)
    interceptors: tuple[Any, ...] = ()

    def __enter__(self) -> Any:
        self._server = grpc.server(ThreadPoolExecutor(2), interceptors=self.interceptors)
        self._server.add_generic_rpc_handlers(self.handlers())
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._server.stop(None).wait()

    def handlers(self) -> Any:
        """The methods."""
        parse = Infer.FromString
        methods = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.infer, parse, bytes),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.stream, parse, bytes),
            "ServerLive": grpc.unary_unary_rpc_method_handler(lambda *_: b"live"),
        }
        shop = {
            "Buy": grpc.unary_unary_rpc_method_handler(self.infer, parse, bytes),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload()),
        }
        return (
            grpc.method_handlers_generic_handler(KSERVE, methods),
            grpc.method_handlers_generic_handler("shop.Shop", shop),
        )

    def upload(self) -> Any:
        """A method that takes a stream and gives one message."""
        return lambda requests, _: b"".join(requests)

    def call(self, method: str, request: Any, metadata: Any = ()) -> bytes:
        """One unary call."""
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        return bytes(self._channel.unary_unary(method)(raw, metadata=metadata, timeout=20))

    def streamed(self, method: str, *requests: Any) -> list[bytes]:
        """One call with several messages."""
        raws = iter([request.SerializeToString() for request in requests])
        return list(self._channel.stream_stream(method)(raws, timeout=20))

    def uploaded(self, *pieces: bytes) -> bytes:
        """One call with a stream of bytes."""
        return bytes(self._channel.stream_unary("/shop.Shop/Upload")(iter(pieces), timeout=20))


class AsyncServer(Server):
    """A server in an event loop of its own."""

    infer = staticmethod(infer_async)
    stream = staticmethod(infer_stream_async)

    def __enter__(self) -> Any:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._run(self._start())
        return self

    async def _start(self) -> None:
        self._server = grpc.aio.server(interceptors=self.interceptors)
        self._server.add_generic_rpc_handlers(self.handlers())
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._run(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def upload(self) -> Any:
        async def upload(requests: Any, _: Any) -> bytes:
            return b"".join([piece async for piece in requests])

        return upload


class WritingServer(AsyncServer):
    """Streams by writing to the context."""

    stream = staticmethod(infer_writing)


class ThreadsInAsyncServer(AsyncServer):
    """Threaded methods in an asyncio server."""

    infer = staticmethod(infer)
    stream = staticmethod(infer_stream)


@pytest.fixture(params=[Server, AsyncServer, ThreadsInAsyncServer])
def server(request: pytest.FixtureRequest) -> Any:
    """Each kind of server."""
    return request.param


def requests(log: AuditLog) -> list[dict[str, Any]]:
    """The records of calls."""
    return [record for record in log.records if "rpc.method" in record]


def test_a_call_of_an_inference_service_is_a_prediction(hooked: Hooked, server: Any) -> None:
    """With the model that the message names, what the model hook saw, digests, peer and status."""
    request = Infer(model_name="credit", model_version="3", id="a")
    with hooked("grpc") as log, server() as running:
        assert running.call(f"/{KSERVE}/ModelInfer", request) == b"credit:a"
        (record,) = requests(log)
    raw = request.SerializeToString()
    assert (record["audit.kind"], record["event.outcome"]) == (PREDICTION, "success")
    assert record["audit.target.id"] == "credit@3"
    assert (record["ml.model.name"], record["ml.model.version"]) == ("credit", "3")
    assert record["ml.prediction.rows"] == 2
    assert (record["rpc.system"], record["rpc.service"], record["rpc.method"]) == (
        "grpc",
        KSERVE,
        "ModelInfer",
    )
    assert record["rpc.grpc.status_code"] == 0
    assert record["http.request.body.bytes"] == len(raw)
    assert record["http.request.body.hash.sha256"] == hashlib.sha256(raw).hexdigest()
    assert record["http.response.body.hash.sha256"] == hashlib.sha256(b"credit:a").hexdigest()
    assert record["source.ip"] == "127.0.0.0"
    assert record["url.path"] == record["http.route"] == f"/{KSERVE}/ModelInfer"
    assert "http.response.status_code" not in record


@pytest.mark.parametrize("kind", [Server, AsyncServer, WritingServer, ThreadsInAsyncServer])
def test_a_stream_is_one_record_before_its_end(hooked: Hooked, kind: Any) -> None:
    """All messages in both directions are counted."""
    with hooked("grpc") as log, kind() as running:
        sent = [Infer(model_name="credit", id="a"), Infer(model_name="credit", id="b")]
        assert running.streamed(f"/{KSERVE}/ModelStreamInfer", *sent) == [b"credit:a", b"credit:b"]
        (record,) = requests(log)
    assert (record["audit.kind"], record["event.outcome"]) == (PREDICTION, "success")
    assert record["http.request.body.bytes"] == sum(len(one.SerializeToString()) for one in sent)
    assert record["http.response.body.bytes"] == 16
    assert record["ml.model.name"] == "credit"


@pytest.mark.parametrize("kind", [Server, AsyncServer])
def test_other_methods_are_requests_and_probes_are_nothing(hooked: Hooked, kind: Any) -> None:
    """What no route maps is an ordinary request; liveness is not audited."""
    with hooked("grpc") as log, kind() as running:
        assert running.uploaded(b"ab", b"c") == b"abc"
        if kind is Server:
            assert running.call(f"/{KSERVE}/ServerLive", b"") == b"live"
        (record,) = requests(log)
    assert (record["audit.kind"], record["rpc.method"]) == ("audit.api.request", "Upload")
    assert record["http.request.body.hash.sha256"] == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("how", "kind", "code", "error"),
    [
        ("UNAUTHENTICATED", "audit.access.authentication.failed", 16, "UNAUTHENTICATED"),
        ("PERMISSION_DENIED", "audit.access.denied", 7, "PERMISSION_DENIED"),
        ("INVALID_ARGUMENT", PREDICTION, 3, "INVALID_ARGUMENT"),
        ("set", PREDICTION, 5, "NOT_FOUND"),
        ("raise", PREDICTION, 2, "LookupError"),
    ],
)
def test_an_error_in_a_call_is_recorded_by_its_status_or_class(
    hooked: Hooked, server: Any, how: str, kind: str, code: int, error: str
) -> None:
    """The client gets the status that it always got; no text of an error is recorded."""
    with hooked("grpc") as log, server() as running:
        with pytest.raises(grpc.RpcError) as raised:
            running.call(f"/{KSERVE}/ModelInfer", Infer(model_name="credit", id=how))
        (record,) = requests(log)
        assert "secret data" not in str(log.records)
    assert raised.value.code().value[0] == code
    assert (record["audit.kind"], record["event.outcome"]) == (kind, "failure")
    assert (record["rpc.grpc.status_code"], record["error.type"]) == (code, error)


def test_a_method_that_does_not_exist_is_recorded(hooked: Hooked, server: Any) -> None:
    """UNIMPLEMENTED, as the server answers it."""
    with hooked("grpc") as log, server() as running:
        with pytest.raises(grpc.RpcError):
            running.call("/shop.Shop/Steal", b"")
        (record,) = requests(log)
    assert (record["audit.kind"], record["rpc.grpc.status_code"]) == ("audit.api.request", 12)


def test_who_called_is_found_in_the_metadata(hooked: Hooked, server: Any) -> None:
    """By the logic of every other request: a Basic user name, a keyed hash of a token."""
    policy = REFUSE + "redact: []\n"
    with hooked("grpc", policy=policy) as log, server() as running:
        request = Infer(model_name="credit", id="a")
        for value in ("Basic YW5uOmh1bnRlcjI=", "Bearer secret-token"):
            running.call(f"/{KSERVE}/ModelInfer", request, [("authorization", value)])
        first, second = requests(log)
        assert "hunter2" not in str(log.records)
        assert "secret-token" not in str(log.records)
    assert first["audit.actor.id"] == "ann"
    assert second["audit.actor.id"].startswith("credential:")


def test_the_callers_trace_is_joined(hooked: Hooked, server: Any) -> None:
    """By a valid ``traceparent`` in the metadata."""
    with hooked("grpc") as log, server() as running:
        trace = [("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")]
        running.call(f"/{KSERVE}/ModelInfer", Infer(model_name="credit", id="a"), trace)
        (record,) = requests(log)
    assert record["trace.id"] == "ab" * 16


def test_what_an_interceptor_of_the_program_refuses_is_recorded(hooked: Hooked) -> None:
    """Ours stands in front of it."""

    class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            def refuse(_: Any, context: Any) -> Any:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")

            return grpc.unary_unary_rpc_method_handler(refuse)

    class Guarded(Server):
        interceptors = (Guard(),)

    with hooked("grpc") as log, Guarded() as running:
        with pytest.raises(grpc.RpcError):
            running.call(f"/{KSERVE}/ModelInfer", Infer(model_name="credit"))
        (record,) = requests(log)
    assert record["audit.kind"] == "audit.access.authentication.failed"


def test_nothing_happens_that_cannot_be_recorded(hooked: Hooked, server: Any) -> None:
    """UNAVAILABLE before the method is called, and the model has not answered."""
    called = []

    class Counting(server):  # type: ignore[misc]
        infer = staticmethod(lambda *_: called.append(1))

    with hooked("grpc", policy=REFUSE) as log, Counting() as running:
        log.fail(SpoolFullError("full"))
        with pytest.raises(grpc.RpcError) as raised:
            running.call(f"/{KSERVE}/ModelInfer", Infer(model_name="credit", id="a"))
        log.heal()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert called == []


def test_an_answer_whose_record_cannot_be_stored_does_not_go_out(hooked: Hooked, server: Any) -> None:
    """Storing fails while the method runs."""
    logs: list[AuditLog] = []

    class Failing(server):  # type: ignore[misc]
        def handlers(self) -> Any:
            handler = self.infer

            def failing(request: Any, context: Any) -> Any:
                logs[0].fail(SpoolFullError("full"))
                return handler(request, context)

            if asyncio.iscoroutinefunction(handler):

                async def failing_async(request: Any, context: Any) -> Any:
                    return await failing(request, context)

                method = failing_async
            else:
                method = failing
            made = grpc.unary_unary_rpc_method_handler(method, Infer.FromString, bytes)
            return (grpc.method_handlers_generic_handler(KSERVE, {"ModelInfer": made}),)

    with hooked("grpc", policy=REFUSE) as log, Failing() as running:
        logs.append(log)
        with pytest.raises(grpc.RpcError) as raised:
            running.call(f"/{KSERVE}/ModelInfer", Infer(model_name="credit", id="a"))
        log.heal()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", ["model", "complete", "_stated", "reading", "begin"])
def test_a_broken_part_costs_the_client_nothing(
    hooked: Hooked, server: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Answers are what they were, and the fault is reported."""
    from mlaudit.capture.web import grpc_exchange

    def broken(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    where: Any = grpc_exchange.GrpcExchange
    names = {"begin": (grpc_exchange, "_client"), "reading": (grpc_exchange, "_model_of")}
    where, name = names.get(name, (where, name))
    if name == "_stated":
        monkeypatch.setattr(grpc_exchange, "number_of", broken)
    else:
        monkeypatch.setattr(where, name, broken)
    with hooked("grpc") as log, server() as running:
        assert running.call(f"/{KSERVE}/ModelInfer", Infer(model_name="credit", id="a")) == b"credit:a"
        assert log.pipeline.counts.faults >= 1


def test_a_broken_hook_leaves_the_server_as_it_would_be(hooked: Hooked, server: Any, broken: str) -> None:
    """Calls are answered, and the fault is reported."""
    with hooked("grpc") as log:
        with server() as running:
            assert running.call(f"/{KSERVE}/ModelInfer", Infer(model_name="credit", id="a")) == b"credit:a"
        assert log.of("audit.pipeline.failure")[0]["audit.component"] == "capture.grpc"
    assert broken
