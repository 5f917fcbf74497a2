"""The receiver of both sides: OTLP/HTTP that accepts everything, and counts it with the official classes.

``python -m benchmarks.receiver`` prints its port on stdout and answers each line on stdin with the counts so far:
log records by event name, and spans by kind.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_counts: Counter[str] = Counter()
_lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        found: Counter[str] = Counter()
        if self.path == "/v1/logs":
            for resource_logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                for scope_logs in resource_logs.scope_logs:
                    found.update(record.event_name for record in scope_logs.log_records)
        elif self.path == "/v1/traces":
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope_spans in resource_spans.scope_spans:
                    found.update(Span.SpanKind.Name(span.kind) for span in scope_spans.spans)
        with _lock:
            _counts.update(found)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")  # an empty response message: nothing was rejected
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def main() -> None:
    """Serves until stdin ends."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    print(json.dumps({"port": httpd.server_port}), flush=True)
    for _ in sys.stdin:
        with _lock:
            print(json.dumps(_counts), flush=True)


if __name__ == "__main__":
    main()
