"""Fixtures for every test: the real Elasticsearch and collector, started once, when the first test asks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3
from elasticsearch import Elasticsearch

from mlaudit.errors import StackError
from mlaudit.event import new_record_id
from mlaudit.stack import Stack
from mlaudit.stack.preparation import prepare
from mlaudit.stack.stack_layout import unprivileged_uid


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the stack carries its mark, so that ``-m "not stack"`` is always right."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.stack)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetches and builds what a stack needs before the first test: it takes minutes, and a test's time is bounded.

    Otherwise the first test on a new machine runs out of its time here, and every other test of the stack with it.
    """
    if session.config.option.collectonly or not any(one.get_closest_marker("stack") for one in session.items):
        return
    with contextlib.suppress(StackError):  # the fixture reports what is missing
        prepare(_reporter(session.config), unprivileged_uid())


def _reporter(config: pytest.Config) -> Callable[[str], None]:
    """Prints a line at once, from a worker too."""

    def report(line: str) -> None:
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(line, file=sys.stderr, flush=True)

    return report


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The running stack, shared by all tests; use ``service`` to tell your own records apart."""
    # Not tmp_path_factory: its folders are closed to the unprivileged user that runs Elasticsearch.
    directory = Path(tempfile.mkdtemp(prefix="mlaudit-stack-"))
    directory.chmod(0o755)
    try:
        with Stack(directory, quick=True, archive=directory / "archive.jsonl") as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def elasticsearch(stack: Stack) -> Iterator[Elasticsearch]:
    """A client with the administrator's rights. ``ping()`` and ``info()`` do not work on this server."""
    with Elasticsearch(
        stack.elasticsearch_url,
        basic_auth=stack.elasticsearch_auth,
        ca_certs=str(stack.ca_file) if stack.ca_file else None,
    ) as client:
        yield client


@pytest.fixture
def service() -> str:
    """A service name that no other test uses: search for it to see only your own records."""
    return f"test-{uuid.uuid4()}"


@dataclass
class Sender:
    """Sends OTLP/HTTP JSON to the stack's collector as a service would, and looks the result up."""

    stack: Stack
    service: str
    client: Elasticsearch
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30))

    def original(self, **fields: Any) -> str:
        """The JSON text of a small valid record of this test's service."""
        body: dict[str, Any] = {
            "@timestamp": "2026-11-25T03:30:00.123456789Z",
            "audit.record.id": new_record_id(),
            "event.dataset": "mlaudit.prediction",
            "service.name": self.service,
        }
        body |= {name.replace("__", "."): value for name, value in fields.items()}
        return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def record(self, body: Any, attributes: dict[str, Any] | None = None) -> dict[str, Any]:
        """One OTLP log record; a ``str`` body is a string value, anything else an OTLP any-value."""
        return {
            "timeUnixNano": str(time.time_ns()),
            "eventName": "audit.ml.prediction",
            "body": {"stringValue": body} if isinstance(body, str) else body,
            "attributes": _attributes(attributes or {}),
        }

    def send(
        self,
        *records: dict[str, Any],
        scope: str = "mlaudit",
        scope_attributes: dict[str, Any] | None = None,
        resource: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        token: str | None = "",
    ) -> int:
        """POST the records in one request; returns the status. ``token`` None sends none."""
        logs = {
            "resourceLogs": [
                {
                    "resource": {"attributes": _attributes(resource or {})},
                    "scopeLogs": [
                        {
                            "scope": {"name": scope, "attributes": _attributes(scope_attributes or {})},
                            "logRecords": list(records),
                        }
                    ],
                }
            ]
        }
        return self.post("/v1/logs", logs, headers=headers, token=token)

    def post(
        self, path: str, message: Any, headers: dict[str, str] | None = None, token: str | None = ""
    ) -> int:
        """POST any OTLP JSON message."""
        sent = {"Content-Type": "application/json"} | (headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.stack.token}"
        url = f"{self.stack.otlp_endpoint}{path}"
        return self.pool.request("POST", url, body=json.dumps(message), headers=sent).status

    def find(
        self, count: int, index: str = "logs-mlaudit.*", query: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The hits for this test's service (or ``query``), once there are at least ``count``."""
        chosen = query or {"term": {"service.name": self.service}}
        deadline = time.monotonic() + 30
        while True:
            self.client.indices.refresh(index=index, ignore_unavailable=True, allow_no_indices=True)
            # 503: the index is being made this moment.
            answer = self.client.options(ignore_status=503).search(
                index=index, query=chosen, size=1000, allow_no_indices=True
            )
            hits: list[dict[str, Any]] = answer["hits"]["hits"] if "hits" in answer else []
            if len(hits) >= count or time.monotonic() > deadline:
                assert len(hits) >= count, f"expected {count} documents for {chosen}, found {len(hits)}"
                return hits
            time.sleep(0.1)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Return when the condition holds; fail the test when it does not within ``seconds``."""
        wait_for(condition, what, seconds)

    def find_original(self, original: str) -> dict[str, Any]:
        """The one document that keeps exactly this original."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            self.client.indices.refresh(index="logs-mlaudit.*", ignore_unavailable=True)
            query = {"term": {"event.hash": hashlib.sha256(original.encode()).hexdigest()}}
            # 503: the index is being made this moment.
            answer = self.client.options(ignore_status=503).search(index="logs-mlaudit.*", query=query)
            hits = answer["hits"]["hits"] if "hits" in answer else []
            found[:] = [hit for hit in hits if hit["_source"]["event.original"] == original]
            return bool(found)

        wait_for(there, "the document with the original")
        assert len(found) == 1
        return found[0]


@pytest.fixture
def sender(stack: Stack, service: str, elasticsearch: Elasticsearch) -> Sender:
    """Sends to the collector; ``find`` waits for the documents."""
    return Sender(stack, service, elasticsearch)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Return when the condition holds; fail the test when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": str(value)}} for key, value in values.items()]
