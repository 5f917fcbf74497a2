"""botocore: objects of S3, served by a stand-in that answers real calls."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from mlaudit.capture.telemetry.providers import attach_to_tracer_provider
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

session = pytest.importorskip("botocore.session")
from botocore.client import BaseClient  # noqa: E402 - only where it is installed
from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

from mlaudit.capture.libraries.botocore import BotocoreIntegration  # noqa: E402

READ, MODIFIED = "audit.data.read", "audit.data.modified"
Hooked = Callable[..., AbstractContextManager[AuditLog]]
HEAD = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
redact: []
"""
POLICY = HEAD + "rules: []\ndata: {paths: ['s3://loans/**']}\n"


class _S3(http.server.BaseHTTPRequestHandler):
    """Every object is there, except one."""

    calls: list[str]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        type(self).calls.append(self.command)
        code = 404 if "missing" in self.path else 204 if self.command == "DELETE" else 200
        body = b"a,b\n1,2\n" if self.command == "GET" and code == 200 else b""
        if code == 200 and "x-amz-copy-source" in self.headers:
            body = b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"
        if self.command == "POST":
            body = b"<DeleteResult></DeleteResult>"
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = do_POST = _answer  # noqa: N815 - the server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the server's name
        """Nothing."""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a stand-in on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("S3", (_S3,), {"calls": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = session.get_session().create_client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
        aws_access_key_id="AKIAXXXXXXXXXXXXXXXX",
        aws_secret_access_key="very-secret",
        region_name="eu-central-1",
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )
    client.seen = handler.calls
    yield client
    server.shutdown()
    server.server_close()


def recorded(log: AuditLog, kind: str) -> list[tuple[Any, ...]]:
    """Operation, name, bytes and outcome of each record."""
    return [
        (
            one["ml.dataset.operation"],
            one["ml.dataset.name"],
            one.get("ml.dataset.bytes"),
            one["event.outcome"],
        )
        for one in log.of(kind)
    ]


def test_objects_are_recorded_by_bucket_and_key(hooked: Hooked, client: Any) -> None:
    """What the policy's paths choose, and nothing of credentials."""
    with hooked("botocore", policy=POLICY) as log:
        client.put_object(Bucket="loans", Key="2026/11.csv", Body=b"a,b\n1,2\n")
        assert client.get_object(Bucket="loans", Key="2026/11.csv")["Body"].read() == b"a,b\n1,2\n"
        client.copy_object(Bucket="loans", Key="b.csv", CopySource={"Bucket": "loans", "Key": "a.csv"})
        client.copy_object(Bucket="public", Key="c.csv", CopySource="loans/a.csv")
        client.delete_object(Bucket="loans", Key="2026/11.csv")
        client.delete_objects(Bucket="loans", Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
        client.put_object(Bucket="logs", Key="x", Body=b"")
        with pytest.raises(ClientError):
            client.get_object(Bucket="loans", Key="missing")
    assert recorded(log, READ) == [
        ("GetObject", "s3://loans/2026/11.csv", 8, "success"),
        ("CopyObject", "s3://loans/a.csv", None, "success"),
        ("CopyObject", "s3://loans/a.csv", None, "success"),
        ("GetObject", "s3://loans/missing", None, "failure"),
    ]
    assert recorded(log, MODIFIED) == [
        ("PutObject", "s3://loans/2026/11.csv", 8, "success"),
        ("CopyObject", "s3://loans/b.csv", None, "success"),
        ("DeleteObject", "s3://loans/2026/11.csv", None, "success"),
        ("DeleteObjects", "s3://loans/", None, "success"),
    ]
    assert log.of(MODIFIED)[3]["labels"] == {"objects": "2"}
    assert log.of(READ)[0]["server.address"] == "127.0.0.1"
    assert log.of(READ)[0]["audit.target.type"] == "object"
    assert "AKIA" not in str(log.records)


def test_otels_spans_of_the_same_calls_make_no_second_record(hooked: Hooked, client: Any) -> None:
    """In whichever order the two were set."""
    botocore = pytest.importorskip("opentelemetry.instrumentation.botocore")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider()
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    attach_to_tracer_provider(provider)
    instrumentor = botocore.BotocoreInstrumentor()
    for first in (True, False):
        if first:
            instrumentor.instrument(tracer_provider=provider)
        with hooked("botocore", policy=POLICY) as log:
            if not first:
                instrumentor.instrument(tracer_provider=provider)
            client.get_object(Bucket="loans", Key="a.csv")
            if not first:
                instrumentor.uninstrument()
        if first:
            instrumentor.uninstrument()
        assert recorded(log, READ) == [("GetObject", "s3://loans/a.csv", 8, "success")]
    assert [span.name for span in exporter.get_finished_spans()] == ["S3.GetObject"] * 2


def test_spans_alone_tell_the_call_without_its_object(hooked: Hooked, client: Any) -> None:
    """Where the hook is not set."""
    botocore = pytest.importorskip("opentelemetry.instrumentation.botocore")
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    attach_to_tracer_provider(provider)
    instrumentor = botocore.BotocoreInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with hooked() as log:
            client.get_object(Bucket="loans", Key="a.csv")
            client.delete_object(Bucket="loans", Key="a.csv")
    finally:
        instrumentor.uninstrument()
    assert recorded(log, READ) == [("GetObject", "s3://", None, "success")]
    assert recorded(log, MODIFIED) == [("DeleteObject", "s3://", None, "success")]


def test_nothing_is_touched_that_could_not_be_recorded(hooked: Hooked, client: Any) -> None:
    """When the policy says refuse, the call does not leave the process."""
    with hooked(
        "botocore", policy=HEAD + "rules: [{name: strict, level: metadata, on_failure: refuse}]\n"
    ) as log:
        log.fail(SpoolUnavailableError("broken on purpose"))
        with pytest.raises(AuditRefusedError):
            client.put_object(Bucket="loans", Key="a", Body=b"")
        with pytest.raises(AuditRefusedError):
            client.get_object(Bucket="loans", Key="a")
    assert client.seen == []


def test_a_broken_hook_never_reaches_the_program(hooked: Hooked, broken: str, client: Any) -> None:
    """Every call gives what it gave, and the fault is in a record."""
    with hooked("botocore", policy=POLICY) as log:
        client.put_object(Bucket="loans", Key="a.csv", Body=b"a")
        assert client.get_object(Bucket="loans", Key="a.csv")["Body"].read() == b"a,b\n1,2\n"
        assert any(record.get("audit.failed") for record in log.of(READ))


def test_what_was_hooked_is_as_before() -> None:
    """And can be hooked again."""
    before = BaseClient._make_api_call
    for _ in range(2):
        BotocoreIntegration().instrument()
        BotocoreIntegration().instrument()
        assert BaseClient._make_api_call is not before
        BotocoreIntegration().uninstrument()
        assert BaseClient._make_api_call is before
