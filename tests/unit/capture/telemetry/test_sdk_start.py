"""When OpenTelemetry is started by us, and where the audit's token may go."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from mlaudit.capture.telemetry import sdk_start
from mlaudit.settings import Settings


def settings(**env: str) -> Settings:
    """Settings of these variables alone."""
    return Settings.from_env({f"MLAUDIT_{name}": value for name, value in env.items()})


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:4318/v1/logs"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "MLAUDIT_OTEL": "off"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "MLAUDIT_OTEL": "AUTO"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, True),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "console",
            },
            False,
        ),
    ],
)
def test_it_is_started_only_where_an_endpoint_asks_for_it(env: dict[str, str], wanted: bool) -> None:
    """No endpoint, no exporter, or a switch that says no: then nothing is touched."""
    assert sdk_start._wanted(env) is wanted


@pytest.mark.parametrize(
    ("endpoint", "shared"),
    [
        ("http://localhost:4318/v1/traces", True),
        ("http://localhost:4318", True),
        ("https://localhost:4318/v1/traces", False),
        ("http://localhost:4319/v1/traces", False),
        ("http://elsewhere:4318/v1/traces", False),
        ("http://localhost:4318@evil/v1/traces", False),
    ],
)
def test_the_token_goes_to_its_own_collector_only(tmp_path: Path, endpoint: str, shared: bool) -> None:
    """Scheme, host and port must be those of the audit's endpoint."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    known = settings(ENDPOINT="http://localhost:4318/v1/logs", TOKEN_FILE=str(token))
    assert ("session" in sdk_start._http_options(known, endpoint)) is shared
    assert (sdk_start._grpc_headers(known, endpoint) == {"authorization": "Bearer s3cret"}) is shared


def test_a_rotated_token_is_used_at_once(tmp_path: Path) -> None:
    """The file is read for every request."""
    import requests

    token = tmp_path / "token"
    bearer = sdk_start._Bearer(token)
    for text in ("one", "two\n"):
        token.write_text(text)
        prepared = requests.Request("POST", "http://collector/", auth=bearer).prepare()
        assert prepared.headers["authorization"] == f"Bearer {text.strip()}"


def test_without_a_token_nothing_is_added() -> None:
    """A collector that asks for none gets none."""
    known = settings(ENDPOINT="http://localhost:4318/v1/logs")
    assert sdk_start._http_options(known, "http://localhost:4318/v1/traces") == {}
    assert sdk_start._grpc_headers(known, "http://localhost:4318") is None


def test_certificates_of_the_audit_serve_traces_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless OpenTelemetry's own variables say otherwise."""
    known = settings(
        ENDPOINT="https://localhost:4318/v1/logs",
        CA_FILE=str(tmp_path / "ca.pem"),
        CLIENT_CERT_FILE=str(tmp_path / "c.pem"),
        CLIENT_KEY_FILE=str(tmp_path / "k.pem"),
    )
    assert sdk_start._http_options(known, "https://collector:4318/v1/traces") == {
        "certificate_file": str(tmp_path / "ca.pem"),
        "client_certificate_file": str(tmp_path / "c.pem"),
        "client_key_file": str(tmp_path / "k.pem"),
    }
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "other.pem")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "other.pem")
    assert sdk_start._http_options(known, "https://collector:4318/v1/traces") == {}


def test_the_flush_at_the_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that hangs holds the shutdown up no longer than the limit, and keeps no other from sending."""
    monkeypatch.setattr(sdk_start, "_FLUSH_SECONDS", 0.2)
    flushed, release = threading.Event(), threading.Event()

    class Hanging:
        def force_flush(self) -> None:
            release.wait(30)

    class Quick:
        def force_flush(self) -> None:
            flushed.set()

    begun = time.monotonic()
    sdk_start._flush([Hanging(), Quick()])
    assert time.monotonic() - begun < 5
    assert flushed.is_set()
    release.set()


@contextlib.contextmanager
def only_handler() -> Iterator[Any]:
    """A root logger with only our handler, and what its provider gets; pytest's own handlers are put aside."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    root = logging.getLogger()
    before, root.handlers = root.handlers, [sdk_start._handler(provider)]
    try:
        yield exporter
    finally:
        root.handlers = before


def test_a_service_without_handlers_keeps_its_warnings_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python writes warnings to stderr when nobody handles them: our handler is not the end of that."""
    stderr = io.StringIO()
    last = logging.StreamHandler(stderr)
    last.setLevel(logging.WARNING)
    monkeypatch.setattr(logging, "lastResort", last)
    with only_handler() as lines:
        logging.getLogger("shop").warning("careful")
        assert stderr.getvalue() == "careful\n"
        assert len(lines.get_finished_logs()) == 1
        logging.getLogger().addHandler(logging.NullHandler())
        logging.getLogger("shop").warning("again")
    assert "again" not in stderr.getvalue()


def test_what_is_logged_while_sending_is_not_sent() -> None:
    """An exporter's own lines, and those of the audit's threads, would never end."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    say = logging.getLogger("urllib3").warning
    with only_handler() as lines:
        with suppress_instrumentation():
            say("sending")
        thread = threading.Thread(target=say, args=("x",), name="mlaudit-sender")
        thread.start()
        thread.join()
        assert lines.get_finished_logs() == ()
        say("heard")
        assert len(lines.get_finished_logs()) == 1


def test_a_fault_at_the_start_is_logged_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The trail does not depend on traces: the service runs on, and is not asked again."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("MLAUDIT_OTEL", raising=False)
    starter = sdk_start.Starter()
    assert not starter.done

    def broken(*_: object) -> None:
        raise ImportError("no exporter")

    monkeypatch.setattr(sdk_start, "_instrument", broken)
    starter.see(object(), {"type": "http"})
    assert starter.done
    assert "could not be started" in caplog.text


def test_under_the_launcher_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """``opentelemetry-instrument`` has done it, or was configured not to."""
    from mlaudit.capture.telemetry import providers

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(providers.launched, "by opentelemetry-instrument", True)
    starter = sdk_start.Starter()
    starter.see(object(), {"type": "http"})
    assert starter.done
