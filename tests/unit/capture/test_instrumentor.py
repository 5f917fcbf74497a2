"""Switching on and off inside one process; whole processes are in the integration tests."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mlaudit.capture import instrumentor
from mlaudit.capture.integrations import Registration
from mlaudit.capture.telemetry.launcher import MlauditInstrumentor
from mlaudit.capture.web.starlette import StarletteIntegration
from mlaudit.testing import capture


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    """Every test begins and ends without hooks."""
    instrumentor.deactivate()
    yield
    instrumentor.deactivate()


def app() -> Starlette:
    """An application that knows nothing of auditing."""
    return Starlette(routes=[Route("/x", lambda request: PlainTextResponse("x"))])


def test_an_application_is_audited_without_a_line_about_it(ask: Any) -> None:
    """Starlette's own ``__call__`` is hooked, also in applications made before."""
    before = app()
    with capture() as log:
        ask(before, "GET", "/x")
        ask(app(), "GET", "/x")
        assert log.kinds() == ["audit.api.request"] * 2


def test_hooks_are_set_once_and_taken_out_again() -> None:
    """Activating twice is activating once; deactivating gives the library its own function back."""
    original = Starlette.__call__
    with capture():
        instrumentor.activate()
        hooked = Starlette.__call__
        instrumentor.activate()
        StarletteIntegration().instrument()
        assert Starlette.__call__ is hooked
        assert hooked is not original
    instrumentor.deactivate()
    assert Starlette.__call__ is original
    instrumentor.deactivate()
    StarletteIntegration().uninstrument()
    assert Starlette.__call__ is original


def test_a_server_still_sees_a_coroutine_function() -> None:
    """Uvicorn decides by it whether an application speaks ASGI 3."""
    import inspect

    with capture():
        assert inspect.iscoroutinefunction(Starlette.__call__)


def test_a_library_that_is_disabled_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """``MLAUDIT_DISABLED_LIBRARIES`` names integrations that are not set."""
    original = Starlette.__call__
    monkeypatch.setenv("MLAUDIT_DISABLED_LIBRARIES", "joblib, starlette")
    monkeypatch.setattr(instrumentor, "_registered", False)
    instrumentor.activate()
    assert Starlette.__call__ is original


class _Broken:
    """An integration whose library is not what it expects."""

    def instrument(self) -> None:
        raise AttributeError("no such function")


def test_an_integration_that_cannot_be_set_is_told_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The import of the library succeeds, the log says what failed, and so does the trail."""
    monkeypatch.setattr(Registration, "load", lambda _: _Broken())
    monkeypatch.setattr(instrumentor, "_registered", False)
    with capture(instrument=False) as log, caplog.at_level(logging.ERROR, "mlaudit"):
        instrumentor.activate()
        assert "no such function" in caplog.text
        assert log.of("audit.pipeline.failure")[0]["audit.component"] == "instrumentor"


@pytest.mark.parametrize(
    ("argv", "original", "own"),
    [
        (["/venv/bin/mlaudit"], ["python", "/venv/bin/mlaudit", "verify"], True),
        (["-m"], ["python", "-m", "mlaudit.cli", "verify"], True),
        (["-m"], ["python", "-m", "mlaudit", "spool"], True),
        (["-m"], ["python", "-m", "mlauditor"], False),
        (["/venv/bin/uvicorn"], ["python", "/venv/bin/uvicorn", "mlaudit:app"], False),
        (["train.py"], ["python", "train.py", "--out", "mlaudit"], False),
        ([], [], False),
    ],
)
def test_the_command_does_not_audit_itself(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], original: list[str], own: bool
) -> None:
    """Only ``mlaudit`` and ``python -m mlaudit`` are left out."""
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert instrumentor._is_own_command() is own


def test_a_provider_that_an_application_sets_later_gets_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever calls ``set_tracer_provider`` has the audit's span processor in it."""
    from types import ModuleType

    class Provider:
        def __init__(self) -> None:
            self.processors: list[Any] = []

        def add_span_processor(self, processor: Any) -> None:
            self.processors.append(processor)

    module: Any = ModuleType("stand_in")
    module.set_tracer_provider = lambda provider: None
    monkeypatch.setattr(instrumentor, "_active", True)
    instrumentor._watch_provider("set_tracer_provider", "attach_to_tracer_provider", module)
    provider = Provider()
    module.set_tracer_provider(provider)
    module.set_tracer_provider(provider)
    assert [type(processor).__name__ for processor in provider.processors] == ["AuditSpanProcessor"]


def test_entry_points_do_nothing_while_auditing_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed but not enabled: the launcher loads us, and the providers stay as they are."""
    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    called: list[str] = []
    monkeypatch.setattr(instrumentor, "_otel", lambda name, *_: called.append(name))
    original = Starlette.__call__
    instrumentor.pre_instrument()
    instrumentor.post_instrument()
    MlauditInstrumentor().instrument()
    MlauditInstrumentor().uninstrument()
    assert called == []
    assert Starlette.__call__ is original


def test_the_entry_points_of_the_package_are_what_the_launcher_loads() -> None:
    """Each name in the package's metadata leads to a callable of the instrumentor."""
    from importlib.metadata import entry_points

    for group in ("pre_instrument", "instrumentor", "post_instrument"):
        (entry,) = entry_points(group=f"opentelemetry_{group}", name="mlaudit")
        assert callable(entry.load())


def test_the_audit_is_neither_distro_nor_configurator() -> None:
    """Of those only one can load, and it belongs to the vendor."""
    from importlib.metadata import entry_points

    for group in ("opentelemetry_distro", "opentelemetry_configurator"):
        assert not [entry for entry in entry_points(group=group) if "mlaudit" in entry.value]


def test_a_request_is_put_on_its_span_and_the_span_into_the_record(ask: Any) -> None:
    """The record carries the ids of the current span, the span the record's id and the pseudonymous actor."""
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("server")
    with capture() as log, tracer.start_as_current_span("GET /x") as span:
        ask(app(), "GET", "/x", headers=[("authorization", "Basic YWxpY2U6eA==")])
        (record,) = log.of("audit.api.request")
    assert record["trace.id"] == trace.format_trace_id(span.get_span_context().trace_id)
    assert record["span.id"] == trace.format_span_id(span.get_span_context().span_id)
    assert span.attributes["audit.record.id"] == record["audit.record.id"]
    assert span.attributes["audit.action"] == "REQUEST"
    assert span.attributes["audit.outcome"] == "success"
    assert span.attributes["audit.actor.id"] == record["audit.actor.id"]
    assert "alice" not in str(dict(span.attributes))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", "0af7651916cd43dd8448eb211c80319c"),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
        ("nonsense", None),
    ],
)
def test_without_a_span_the_callers_trace_is_recorded(ask: Any, header: str, expected: str | None) -> None:
    """A valid ``traceparent`` (W3C) joins the record to the caller's trace."""
    with capture() as log:
        ask(app(), "GET", "/x", headers=[("traceparent", header)])
        assert log.of("audit.api.request")[0].get("trace.id") == expected


@pytest.mark.parametrize("module", ["pipeline", "current"])
def test_a_hooked_library_that_the_pipeline_itself_imports_breaks_nothing(
    tmp_path: Path, module: str
) -> None:
    """A program that imports the pipeline first is watched as any other."""
    environment = {**os.environ, "MLAUDIT_ENABLED": "true", "MLAUDIT_STATE_DIR": str(tmp_path)}
    program = f"import mlaudit.pipeline.{module}, mlaudit.capture.watch as r; print(r._installed)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")
