"""A scripted OTLP/HTTP receiver on a loopback port of the system's choosing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

Reply = tuple[int, dict[str, str], bytes]
Script = Callable[[list[LogRecord], dict[str, str]], Reply]
PROTOBUF = {"content-type": "application/x-protobuf"}
TAKEN: Reply = (200, PROTOBUF, b"")


def partial(rejected: int) -> Reply:
    """The answer of a receiver that accepted all but ``rejected`` records."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    return 200, PROTOBUF, response.SerializeToString()


class Receiver:
    """Answers as its ``script`` says and keeps the records of requests that were answered with ``TAKEN``."""

    def __init__(self) -> None:
        self.script: Script = lambda records, headers: TAKEN
        self.taken: list[LogRecord] = []
        self.requests: list[ExportLogsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportLogsServiceRequest.FromString(body)
                records = [r for rl in request.resource_logs for sl in rl.scope_logs for r in sl.log_records]
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, reply_headers, content = receiver.script(records, headers)
                with receiver.changed:
                    receiver.requests.append(request)
                    receiver.headers.append(headers)
                    if (status, reply_headers, content) == TAKEN:
                        receiver.taken += records
                    receiver.changed.notify_all()
                self.send_response(status)
                for name, value in reply_headers.items():
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content if status != 304 else b"")

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/v1/logs"

    def wait_for(self, condition: Callable[[Receiver], bool], timeout: float = 20.0) -> None:
        """Returns when ``condition`` holds; fails after ``timeout`` seconds."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout), "the receiver did not get there"

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
