"""One call of a gRPC method.

It is recorded as it is on the wire: a POST of ``/package.Service/Method``, with the metadata as headers. Sizes
and digests are those of the serialized messages, one after the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from opentelemetry import trace

from mlaudit.capture.web.http_exchange import HttpExchange
from mlaudit.capture.web.http_record import outcome_of
from mlaudit.errors import AuditRefusedError, UnconfirmedError
from mlaudit.event import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.event import AuditEvent
    from mlaudit.pipeline.pipeline import Pipeline
    from mlaudit.policy.evaluate import Decision

COMPONENT: Final = "capture.grpc"
_LONGEST: Final = 256
# google.rpc.Code in terms of HTTP, which distinguishes the kinds of requests; by name and number.
_STATUS: Final[dict[int, tuple[str, int]]] = {
    0: ("OK", 200),
    1: ("CANCELLED", 499),
    2: ("UNKNOWN", 500),
    3: ("INVALID_ARGUMENT", 400),
    4: ("DEADLINE_EXCEEDED", 504),
    5: ("NOT_FOUND", 404),
    6: ("ALREADY_EXISTS", 409),
    7: ("PERMISSION_DENIED", 403),
    8: ("RESOURCE_EXHAUSTED", 429),
    9: ("FAILED_PRECONDITION", 400),
    10: ("ABORTED", 409),
    11: ("OUT_OF_RANGE", 400),
    12: ("UNIMPLEMENTED", 501),
    13: ("INTERNAL", 500),
    14: ("UNAVAILABLE", 503),
    15: ("DATA_LOSS", 500),
    16: ("UNAUTHENTICATED", 401),
}
_OTHER: Final = ("UNKNOWN", 500)
OK: Final = 0
CANCELLED: Final = 1
UNKNOWN_ERROR: Final = 2
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13


class GrpcExchange(HttpExchange):
    """One call: its messages and how it ended."""

    component: ClassVar[str] = COMPONENT
    code = OK
    _context: Any = None
    _model: tuple[str, str] = ("", "")

    def __init__(self, pipeline: Pipeline, mapped: str | None, details: Any) -> None:
        """Takes the call; ``mapped`` is the kind that the policy gives its method, None when it gives none."""
        headers = [(_bytes(name).lower(), _bytes(value)) for name, value in details.invocation_metadata or ()]
        self._method: str = details.method
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": self._method,
            "scheme": "http",
            "headers": headers,
        }
        super().__init__(pipeline, mapped, scope, headers)
        self._facts = scope

    def route(self) -> str:
        """A method has no parameters: its path is its route."""
        return self._method

    def model(self) -> tuple[str, str]:
        """The model that the request message names, as in KServe, TorchServe and TensorFlow Serving."""
        return self._model

    def begin(self, context: Any) -> None:
        """Takes the context of the call; never raises."""
        try:
            self._context = context
            self._span = trace.get_current_span()
            self._facts["client"] = _client(context.peer())
        except Exception as error:  # noqa: BLE001 - contained
            self._pipeline.fault(COMPONENT, error)

    def reading(self, deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        """The deserializer, which also records each message."""

        def read(raw: bytes) -> Any:
            message = raw if deserialize is None else deserialize(raw)
            self.add_request(raw)
            try:
                if not self._model[0]:
                    self._model = _model_of(message)
            except Exception as error:  # noqa: BLE001 - contained
                self._pipeline.fault(COMPONENT, error)
            return message

        return read

    def complete(self, event: AuditEvent) -> None:
        """Adds service, method and status."""
        service, _, method = self._method.lstrip("/").rpartition("/")
        event.fields.pop("http.response.status_code", None)
        event.fields |= {
            "rpc.system": "grpc",
            "rpc.service": service[:_LONGEST],
            "rpc.method": method[:_LONGEST],
            "rpc.grpc.status_code": self.code,
        }

    def ended(self, error: BaseException | None = None, *, code: int | None = None) -> None:
        """Records a call whose answer is not held back, because it failed or was cancelled. Never raises."""
        if self.recorded:
            return
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            code = CANCELLED
        stated = self._stated() if code is None else code
        aborted = stated != OK
        self.code = stated if aborted else UNKNOWN_ERROR
        name, self.status = _STATUS.get(self.code, _OTHER)
        outcome = UNKNOWN if self.code == CANCELLED else outcome_of(self.status)
        # An abort raises an exception, which has no information beyond the status.
        kind = "" if error is None or aborted else type(error).__name__
        self.end(outcome, kind or name, "")

    def answered(self) -> list[tuple[Any, Decision]]:
        """Makes the record of a call whose answer is complete; returns the records to wait for.

        Raises:
            AuditRefusedError: it could not be stored, and the policy says refuse.
        """
        if self.recorded:
            return []
        self.request_complete = True
        self.code = self._stated()
        name, self.status = _STATUS.get(self.code, _OTHER)
        return self.emit(outcome_of(self.status), "" if self.code == OK else name, "") or []

    def _stated(self) -> int:
        """The status that the method has set so far; OK when it has set none. Never raises."""
        try:
            code = getattr(self._context, "code", None)
            return OK if code is None else number_of(code())
        except Exception as error:  # noqa: BLE001 - contained
            self._pipeline.fault(COMPONENT, error)
            return OK


def number_of(code: Any) -> int:
    """The number of a status that is a number or a ``grpc.StatusCode``; OK for none."""
    value = getattr(code, "value", code)
    return int(value[0]) if isinstance(value, tuple) else int(value or 0)


class Context:
    """The context of an asyncio call as the method sees it: an abort is recorded before it goes out.

    The context of a threaded method in an asyncio server does not expose its status either.
    """

    def __init__(self, exchange: GrpcExchange, context: Any) -> None:
        """Takes the server's own."""
        self._exchange = exchange
        self._context = context
        self._code: Any = None

    @property
    def __class__(self) -> Any:
        """The class of the server's own object, for type checks."""
        return type(self._context)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise TypeError("the class of a call's context cannot be set")

    def set_code(self, code: Any) -> None:
        """See ``grpc.ServicerContext``."""
        self._code = code
        self._context.set_code(code)

    def code(self) -> Any:
        """See ``grpc.ServicerContext``."""
        own = getattr(self._context, "code", None)
        return self._code if own is None else own()

    def abort(self, code: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``grpc.ServicerContext``."""
        self._set_status(code)
        return self._context.abort(code, *args, **kwargs)

    def abort_with_status(self, status: Any) -> Any:
        """See ``grpc.ServicerContext``."""
        self._set_status(getattr(status, "code", None))
        return self._context.abort_with_status(status)

    def _set_status(self, code: Any) -> None:
        try:
            number = number_of(code)
        except Exception:  # noqa: BLE001 - the server rejects it
            number = UNKNOWN_ERROR
        self._exchange.ended(code=number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def check(stored: bool, decision: Decision) -> None:
    """Whether an answer may be sent, after the wait for its record.

    Raises:
        AuditRefusedError: the record is not safe, and the policy says refuse.
    """
    if not stored and decision.on_failure == "refuse":
        raise AuditRefusedError(str(UnconfirmedError()))


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else bytes(value)


def _client(peer: str) -> tuple[str, int] | None:
    """``ipv4:192.0.2.1:4711`` and ``ipv6:[2001:db8::1]:4711``, whose brackets may be escaped."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return None
    address, _, port = rest.rpartition(":")
    address = address.replace("%5B", "").replace("%5D", "").strip("[]")
    return address, int(port) if port.isdigit() else 0


def _model_of(message: Any) -> tuple[str, str]:
    spec = getattr(message, "model_spec", None)
    if spec is not None:
        version = getattr(getattr(spec, "version", None), "value", 0)
        version = version or getattr(spec, "version_label", "")
        return str(getattr(spec, "name", ""))[:_LONGEST], str(version or "")[:_LONGEST]
    name, version = getattr(message, "model_name", ""), getattr(message, "model_version", "")
    if not isinstance(name, str):
        return "", ""
    return name[:_LONGEST], version[:_LONGEST] if isinstance(version, str) else ""
