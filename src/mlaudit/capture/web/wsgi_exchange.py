"""One WSGI request and its response; the step numbers are those of the module ``wsgi``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from opentelemetry import trace

from mlaudit.capture.request_context import current_request
from mlaudit.capture.web.http_exchange import ERROR, NO_BODY, HttpExchange, handled_exception
from mlaudit.capture.web.http_record import outcome_of
from mlaudit.capture.web.http_refusal import HEADERS, PROBLEM
from mlaudit.capture.web.wsgi_request import ReadInput, RemoteUser, client_of, headers_of
from mlaudit.errors import AuditRefusedError, UnconfirmedError
from mlaudit.event import FAILURE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "wsgi"
MARK: Final = "mlaudit.scope"
"""Where the environment holds the request's scope: integrations of frameworks write route and user into it."""


class WsgiExchange(HttpExchange):
    """One request and its response, recorded while they are transferred."""

    component: ClassVar[str] = COMPONENT
    _bodiless = False
    _start: tuple[Any, ...] | None = None
    _awaited = -1
    _error = ""
    _server_write: Any = None

    def __init__(
        self, pipeline: Pipeline, mapped: str | None, path: str, environ: dict[str, Any], start_response: Any
    ) -> None:
        """Takes the request; ``mapped`` is the kind that the policy gives its path, None when it gives none."""
        headers = headers_of(environ, pipeline.settings.actor_header)
        scope: dict[str, Any] = {
            "type": "http",
            "method": environ["REQUEST_METHOD"],
            "path": path,
            "scheme": environ.get("wsgi.url_scheme", "http"),
            "query_string": environ.get("QUERY_STRING", "").encode("latin-1", "replace"),
            "headers": headers,
        }
        super().__init__(pipeline, mapped, scope, headers)
        self._environ = environ
        self._forward = start_response
        length = environ.get("CONTENT_LENGTH") or ""
        self._awaited = int(length) if length.isdigit() else -1
        environ[MARK] = self._facts = scope
        stream = environ.get("wsgi.input")
        if stream is not None:
            environ["wsgi.input"] = ReadInput(stream, self._read)

    def route(self) -> str:
        """As the framework's integration wrote it into the scope."""
        return getattr(self._facts.get("route"), "path", "")

    def serve(self, app: Callable[[dict[str, Any], Any], Iterable[bytes]]) -> Iterable[bytes]:
        """Runs the application; the answer is recorded before it returns, or as it is read."""
        token = current_request.set(self.trail)
        try:
            answer = app(self._environ, self.start_response)
            whole = type(answer) in (list, tuple)
            pieces = None if whole or self._is_file(answer) else _Pieces(self, answer)
        except BaseException as error:
            self.break_off(error)
            raise
        finally:
            current_request.reset(token)
        if pieces is not None:
            return pieces
        if whole:
            for chunk in answer:
                self.note(chunk)
        refusal = self.record_answer()
        if refusal is None:
            self.release()
            return answer  # 4
        if (close := getattr(answer, "close", None)) is not None:
            close()
        return [refusal]

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        """What the application gets for ``start_response``."""
        if self._begun:
            return self._forward(status, headers, exc_info)  # type: ignore[no-any-return]
        try:
            self._note_start(status, headers, exc_info)
        except Exception as error:  # noqa: BLE001 - contained: the server rejects an invalid status
            self._pipeline.fault(COMPONENT, error)
        self._start = (status, headers) if exc_info is None else (status, headers, exc_info)  # 2
        return self._write

    def note(self, chunk: Any) -> bool:
        """Adds a piece of the answer; returns whether the answer is complete with it."""
        if self._bodiless:
            return True
        return bool(chunk) and self.add_response(chunk)

    def release(self) -> Any:
        """Gives the server the status that was held, if it still is."""
        held, self._start = self._start, None
        if held is None:
            return None
        self._begun = True
        return self._forward(*held)

    def record_answer(self) -> bytes | None:
        """Stores the record of a complete answer; returns what the client gets instead, or None when it may be sent.

        Raises:
            AuditRefusedError: it must not be sent, and has been sent in part.
        """
        status = self.status
        try:
            self._refresh_from_environ()
            emitted = self.emit(outcome_of(status), self._error if status >= 500 else "", "")
            refuse = False
            for receipt, decision in emitted or ():
                stored = decision.guarantee != "durable" or receipt.wait()  # 3
                refuse = refuse or (not stored and decision.on_failure == "refuse")
            if not refuse:
                return None
            refused = str(UnconfirmedError())
        except AuditRefusedError as reason:
            refused = str(reason)
        if self._begun:
            self.refused = refused
            raise AuditRefusedError(refused)  # the server breaks the connection off
        self._start = ("503 Service Unavailable", list(HEADERS))
        self.release()
        return PROBLEM

    def break_off(self, error: BaseException | None) -> None:
        """Records an exchange whose application ended without a complete answer, by an exception or not."""
        if self.recorded:
            return
        outcome, name = FAILURE, ""
        if error is not None:
            name, reason = type(error).__name__, "the application raised"
        elif self._start is None and not self._begun:
            reason = "the application returned without a response"
        else:
            outcome, reason = UNKNOWN, "the server did not ask for the end of the response"
        if outcome == FAILURE and not self._begun:
            self.status = 500  # nothing has gone out, and this is what servers answer then
        self._refresh_from_environ()
        self.end(outcome, name, reason)

    @property
    def is_bodiless(self) -> bool:
        """The answer has been begun, and has no content by its nature."""
        return self._bodiless

    def _write(self, chunk: bytes) -> Any:
        """The old way to send a piece, which goes out at once."""
        self._server_write = self.release() or self._server_write
        self.note(chunk)
        return self._server_write(chunk)

    def _read(self, chunk: bytes, over: bool) -> None:
        if self.recorded:
            return
        if chunk:
            self.add_request(chunk)
        read = 0 if self.request is None else self.request.size
        if over or read >= self._awaited >= 0:
            self.request_complete = True

    def _note_start(self, status: str, headers: list[tuple[str, str]], exc_info: Any) -> None:
        self.status = int(status[:3])
        self._span = trace.get_current_span()
        self._error = exc_info[0].__name__ if exc_info else handled_exception()
        self._bodiless = self.status in NO_BODY or self.scope["method"] == "HEAD"
        self._expected = -1
        self.response_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        for name, value in self.response_headers:
            if name.lower() == b"content-length":
                self._expected = int(value)

    def _refresh_from_environ(self) -> None:
        """Reads what middlewares and the framework have set since the start; never raises."""
        try:
            self._facts["client"] = client_of(self._environ)
            user = self._environ.get("REMOTE_USER")
            if user and self._facts.get("user") is None:
                self._facts["user"] = RemoteUser(str(user))
            self._error = self._error or self._facts.get(ERROR, "")
        except Exception as error:  # noqa: BLE001 - contained
            self._pipeline.fault(COMPONENT, error)

    def _is_file(self, answer: Any) -> bool:
        # Servers send a file by themselves only if they get their own wrapper: then no code sees the content.
        wrapper = self._environ.get("wsgi.file_wrapper")
        return isinstance(wrapper, type) and isinstance(answer, wrapper)


class _Pieces:
    """The application's iterable, with the last piece held until the record is stored."""

    def __init__(self, exchange: WsgiExchange, answer: Any) -> None:
        self._exchange = exchange
        self._answer = answer
        self._iterator = iter(answer)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        if exchange.refused:
            raise StopIteration
        # A generator of the application runs in the context of the code that requests its next piece.
        token = current_request.set(exchange.trail)
        try:
            chunk: bytes = next(self._iterator)
        except StopIteration:
            if not exchange.recorded and (refusal := exchange.record_answer()) is not None:
                return refusal
            exchange.release()
            raise
        except BaseException as error:
            exchange.break_off(error)
            raise
        finally:
            current_request.reset(token)
        if not exchange.recorded and exchange.note(chunk):
            refusal = exchange.record_answer()
            if refusal is not None:
                self._iterator = iter(())
                return refusal
        exchange.release()
        return chunk

    def close(self) -> None:
        """Called by the server when it is done, whether or not it has read everything."""
        exchange = self._exchange
        token = current_request.set(exchange.trail)
        try:
            close = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            current_request.reset(token)
            if not exchange.recorded:
                self._end()

    def _end(self) -> None:
        exchange = self._exchange
        if not exchange.is_bodiless:
            exchange.break_off(None)
            return
        try:
            exchange.record_answer()
        except AuditRefusedError:
            return  # counted by the pipeline; the answer has been sent
