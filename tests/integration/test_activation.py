"""Auditing is enabled by environment variable alone, in whole processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.served import SERVICE, Process, environment, of, records, request, started

UVICORN = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--no-access-log"]
LISTENING = r"running on http://127\.0\.0\.1:(\d+)"

TRACED = """
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()

@app.get("/watch")
def watch():
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
    return type(trace.get_tracer_provider()).__name__

@app.get("/seen")
def seen():
    return [[span.name, span.kind.name] for span in exporter.get_finished_spans()]

@app.get("/mine")
def mine():
    return bool(getattr(trace.get_tracer_provider(), "mine", False))
"""
OWN_PROVIDER = """
from contextlib import asynccontextmanager
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

def set_own():
    provider = TracerProvider()
    provider.mine = True
    trace.set_tracer_provider(provider)

@asynccontextmanager
async def lifespan(app):
    set_own()
    yield
"""


def python(code: str, env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Runs a program under this interpreter."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env=env,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_off_costs_the_look_at_one_variable(tmp_path: Path) -> None:
    """Without the variable nothing of mlaudit is imported, and no import hook is installed."""
    code = "import sys; print('mlaudit' in sys.modules, [type(f).__name__ for f in sys.meta_path])"
    for value in ("", "0", "no", "off", "false", "maybe"):
        done = python(code, environment(tmp_path, MLAUDIT_ENABLED=value))
        assert done.stdout.startswith("False")
        assert "ImportHookFinder" not in done.stdout


def test_on_opens_nothing_in_a_process_that_does_no_machine_learning(tmp_path: Path) -> None:
    """Hooks are installed, nothing is opened, and nothing heavy is imported."""
    code = (
        "import sys, json, urllib.request\n"
        "heavy = ('opentelemetry', 'pydantic', 'yaml', 'cryptography', 'starlette', 'sklearn', 'orjson')\n"
        "print('mlaudit.capture.instrumentor' in sys.modules, [name for name in heavy if name in sys.modules])"
    )
    done = python(code, environment(tmp_path))
    assert (done.stdout, done.stderr) == ("True []\n", "")
    assert list(tmp_path.iterdir()) == []


def test_importing_a_hooked_library_alone_leaves_no_trail(tmp_path: Path) -> None:
    """Only the use of the library starts the pipeline."""
    done = python("import fastapi, starlette.applications, joblib", environment(tmp_path))
    assert (done.stderr, done.returncode) == ("", 0)
    assert list(tmp_path.iterdir()) == []


def test_the_command_leaves_no_trail_of_its_own(tmp_path: Path) -> None:
    """``mlaudit`` run in an audited environment is not audited."""
    for command in (
        ["-m", "mlaudit.cli", "--help"],
        [str(Path(sys.executable).parent / "mlaudit"), "--help"],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            env=environment(tmp_path),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_broken_installation_does_not_break_python(tmp_path: Path) -> None:
    """When a dependency cannot be imported the program runs, and stderr says that auditing is off."""
    (tmp_path / "wrapt.py").write_text("raise RuntimeError('broken build')")
    env = environment(tmp_path / "state", PYTHONPATH=str(tmp_path))
    done = python("print('runs')", env)
    assert (done.stdout, done.returncode) == ("runs\n", 0)
    assert "AUDITING IS OFF" in done.stderr
    assert "broken build" in done.stderr


def test_a_disabled_library_is_not_hooked(tmp_path: Path) -> None:
    """``MLAUDIT_DISABLED_LIBRARIES`` reaches the process."""
    code = (
        "from starlette.applications import Starlette as S; print(hasattr(S.__call__, '_mlaudit_original'))"
    )
    assert python(code, environment(tmp_path)).stdout == "True\n"
    off = environment(tmp_path, MLAUDIT_DISABLED_LIBRARIES="starlette")
    assert python(code, off).stdout == "False\n"


def test_a_job_that_trains_leaves_a_trail_from_start_to_stop(tmp_path: Path) -> None:
    """The first use of a hooked library opens the trail; the end of the program closes it."""
    code = "from sklearn.linear_model import LogisticRegression as L\nL().fit([[0.0], [1.0]], [0, 1])\n"
    done = python(code, environment(tmp_path))
    assert "Traceback" not in done.stderr
    kinds = [record["audit.kind"] for record in records(tmp_path)]
    assert kinds[0] == "audit.stream.started"
    assert kinds[-1] == "audit.stream.ended"
    assert {"audit.service.started", "audit.ml.training.completed", "audit.service.stopped"} <= set(kinds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a service."""
    return tmp_path


def serve(folder: Path, service: str, **env: str) -> Any:
    """Starts the service with an OTLP endpoint without a listener."""
    (folder / "app.py").write_text(service)
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1", **env}
    return started(UVICORN, folder, environment(folder / "state", **more))


def ask(process: Process, *paths: str) -> list[Any]:
    """The JSON answers of several paths."""
    port = int(process.wait_for(LISTENING)[1])
    return [json.loads(request(port, "GET", path)[1]) for path in paths]


def test_with_an_endpoint_a_request_gets_a_span_and_the_record_its_trace(folder: Path) -> None:
    """OpenTelemetry's SDK and FastAPI instrumentation are started; one server span for each request."""
    with serve(folder, SERVICE + TRACED) as process:
        provider, _, seen = ask(process, "/watch", "/status", "/seen")
        process.stop()
    assert provider == "TracerProvider"
    assert [name for name, kind in seen if kind == "SERVER"] == ["GET /watch", "GET /status"]
    (ping,) = [r for r in of("audit.api.request", records(folder / "state")) if r["url.path"] == "/status"]
    assert len(ping["trace.id"]) == 32
    assert "Traceback" not in process.output


def test_a_service_without_lifespan_events_is_traced_too(folder: Path) -> None:
    """The first request starts the tracing that the startup could not."""
    (folder / "app.py").write_text(SERVICE + TRACED)
    env = environment(folder / "state", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    with started([*UVICORN, "--lifespan", "off"], folder, env) as process:
        provider, _, seen = ask(process, "/watch", "/status", "/seen")
        process.stop()
    assert provider == "TracerProvider"
    assert ["GET /status", "SERVER"] in seen


@pytest.mark.parametrize(
    ("service", "env"),
    [
        pytest.param(SERVICE + TRACED, {"MLAUDIT_OTEL": "off"}, id="switched-off"),
        pytest.param(SERVICE + TRACED, {"OTEL_SDK_DISABLED": "true"}, id="sdk-disabled"),
        pytest.param(SERVICE + TRACED, {"OTEL_TRACES_EXPORTER": "none"}, id="no-exporter"),
        pytest.param(SERVICE + TRACED, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, id="no-endpoint"),
    ],
)
def test_opentelemetry_is_left_alone_where_nobody_asked_for_it(
    folder: Path, service: str, env: dict[str, str]
) -> None:
    """Without an endpoint, or when disabled, no provider is set; auditing still works."""
    code = service + "\n@app.get('/provider')\ndef p(): return type(trace.get_tracer_provider()).__name__\n"
    with serve(folder, code, **env) as process:
        assert ask(process, "/provider") == ["ProxyTracerProvider"]
        process.stop()
    assert len(of("audit.api.request", records(folder / "state"))) == 1


@pytest.mark.parametrize("when", ["at import", "at startup"])
def test_a_provider_of_the_application_is_never_replaced(folder: Path, when: str) -> None:
    """The application's own SDK stays in use, whether it is set at import or during startup."""
    service = OWN_PROVIDER + SERVICE.replace("FastAPI()", "FastAPI(lifespan=lifespan)") + TRACED
    if when == "at import":
        service = service.replace("    set_own()\n", "").replace(
            '@app.get("/status")', 'set_own()\n@app.get("/status")'
        )
    (folder / "policy.yaml").write_text(
        "version: 1\n"
        "revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]\n"
        "rules: [{name: all, level: metadata}]\n"
        "spans: [{name: 'GET /status', kind: audit.app.ping}]\n"
    )
    with serve(folder, service, MLAUDIT_POLICY=str(folder / "policy.yaml")) as process:
        assert ask(process, "/mine", "/status")[0] is True
        process.stop()
    assert "Overriding" not in process.output
    assert len(of("audit.app.ping", records(folder / "state"))) == 1


@pytest.mark.stack
def test_ordinary_traces_and_logs_reach_the_collector_with_the_audit_token(
    folder: Path, stack: Any, elasticsearch: Any, service: str
) -> None:
    """The audit's bearer token file is used for traces and logs too; the token is in no environment or argument."""
    # At DEBUG the exporters log each request they send: those lines must not be sent in turn, in a loop.
    (folder / "app.py").write_text(SERVICE + "\nimport logging\nlogging.basicConfig(level=logging.DEBUG)\n")
    token = folder / "token"
    token.write_text(stack.token)
    ca = {"MLAUDIT_CA_FILE": str(stack.ca_file)} if stack.ca_file else {}
    env = environment(
        folder / "state",
        MLAUDIT_SERVICE_NAME=service,
        MLAUDIT_ENDPOINT=f"{stack.otlp_endpoint}/v1/logs",
        MLAUDIT_TOKEN_FILE=str(token),
        MLAUDIT_SHUTDOWN_SECONDS="10",
        OTEL_EXPORTER_OTLP_ENDPOINT=stack.otlp_endpoint,
        **ca,
    )
    with started(UVICORN, folder, env) as process:
        port = int(process.wait_for(LISTENING)[1])
        assert request(port, "GET", "/log")[0] == 200
        process.stop(timeout=15)
    assert stack.token not in process.output
    audit = _find(elasticsearch, "logs-mlaudit.access-*", {"term": {"service.name": service}})
    trace_id = audit["trace.id"]
    span = _find(elasticsearch, "traces-*", {"term": {"trace_id": trace_id}})
    assert service in json.dumps(span)
    assert span["attributes"]["audit.record.id"] == audit["audit.record.id"]
    line = _find(elasticsearch, "logs-*,-logs-mlaudit.*", {"term": {"trace_id": trace_id}})
    assert "an ordinary line" in json.dumps(line)


def _find(client: Any, index: str, query: dict[str, Any]) -> dict[str, Any]:
    """The first document that matches, once it is stored."""
    deadline = time.monotonic() + 40
    while True:
        client.indices.refresh(index=index, ignore_unavailable=True, allow_no_indices=True)
        hits = client.search(
            index=index, query=query, size=1, ignore_unavailable=True, allow_no_indices=True
        )["hits"]["hits"]
        if hits:
            return hits[0]["_source"]
        assert time.monotonic() < deadline, f"expected a document in {index} for {query}"
        time.sleep(0.2)
