"""Starts traces and logs of a service that is not instrumented otherwise (``MLAUDIT_OTEL=auto``).

Only where an OTLP endpoint is configured, and only where neither ``opentelemetry-instrument`` nor the application
has set a provider by the time the service's startup is complete. OpenTelemetry's own SDK, exporters and FastAPI
instrumentation do the work; their variables (``OTEL_*``) apply as usual.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mlaudit.capture.request_context import on_service_started, on_service_stopping

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlaudit.settings import Settings

_FLUSH_SECONDS: Final = 2.0
_DEFERRED: Final = frozenset({"ProxyTracerProvider", "ProxyLoggerProvider"})

_log = logging.getLogger("mlaudit")


class Starter:
    """Starts OpenTelemetry once for the first application that runs; ``done`` when there is nothing more to do."""

    def __init__(self) -> None:
        self.done = not _wanted(os.environ)

    def see(self, app: Any, scope: Mapping[str, Any]) -> None:
        """Inspects a call of an application; never raises."""
        try:
            if _launched():
                self.done = True
            elif scope["type"] == "lifespan":
                _instrument(app)
                # Only after the application could set its own providers.
                on_service_started(self.start)
            elif scope["type"] == "http":
                _instrument(app)
                self.start()
        except Exception:  # noqa: BLE001 - contained: the trail does not depend on traces
            self.done = True
            _log.exception("mlaudit: OpenTelemetry could not be started; the audit goes on without traces")

    def start(self) -> None:
        """Sets the providers that are still missing."""
        if self.done:
            return
        self.done = True
        from mlaudit.settings import Settings

        settings = Settings.from_env()
        if settings.otel == "off":
            return
        flushed = [*_start_traces(settings), *_start_logs(settings)]
        if flushed:
            # The SDK flushes in atexit, which a server that SIGTERM ends does not run.
            on_service_stopping(functools.partial(_flush, flushed))


def _flush(providers: list[Any]) -> None:
    """Flushes the providers in parallel, for two seconds at most: the SDK does not keep its own limit."""
    threads = [threading.Thread(target=provider.force_flush, daemon=True) for provider in providers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _FLUSH_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _wanted(env: Mapping[str, str]) -> bool:
    return (
        env.get("MLAUDIT_OTEL", "auto").strip().lower() != "off"
        and env.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and any(_endpoint(env, signal) for signal in ("TRACES", "LOGS"))
    )


def _endpoint(env: Mapping[str, str], signal: str) -> str:
    """The endpoint of a signal, "" without one."""
    if env.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() not in ("otlp", ""):
        return ""
    return env.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""


def _launched() -> bool:
    from mlaudit.capture.telemetry.providers import launched

    return any(launched.values())


def _instrument(app: Any) -> None:
    """Adds the FastAPI instrumentation to an application whose middleware is not built yet."""
    fastapi = sys.modules.get("fastapi")
    if fastapi is None or not isinstance(app, fastapi.FastAPI) or app.middleware_stack is not None:
        return
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])


def _start_traces(settings: Settings) -> list[Any]:
    from opentelemetry import trace

    endpoint = _endpoint(os.environ, "TRACES")
    if not endpoint or type(trace.get_tracer_provider()).__name__ not in _DEFERRED:
        return []
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if _is_grpc("TRACES"):
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter

        exporter: Any = trace_exporter.OTLPSpanExporter(headers=_grpc_headers(settings, endpoint))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(**_http_options(settings, endpoint))
    provider = TracerProvider(resource=_resource(settings))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return [provider]


def _start_logs(settings: Settings) -> list[Any]:
    from opentelemetry import _logs

    endpoint = _endpoint(os.environ, "LOGS")
    if not endpoint or type(_logs.get_logger_provider()).__name__ not in _DEFERRED:
        return []
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    if _is_grpc("LOGS"):
        from opentelemetry.exporter.otlp.proto.grpc import _log_exporter

        exporter: Any = _log_exporter.OTLPLogExporter(headers=_grpc_headers(settings, endpoint))
    else:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        exporter = OTLPLogExporter(**_http_options(settings, endpoint))
    provider = LoggerProvider(resource=_resource(settings))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    _logs.set_logger_provider(provider)
    logging.getLogger().addHandler(_handler(provider))
    return [provider]


def _handler(provider: Any) -> logging.Handler:
    """OpenTelemetry's handler, which keeps the service's own output unchanged."""
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled
    from opentelemetry.sdk._logs import LoggingHandler

    class Handler(LoggingHandler):
        def emit(self, record: logging.LogRecord) -> None:
            # Logs during an export would have to be exported, and so on.
            if is_instrumentation_enabled() and not threading.current_thread().name.startswith("mlaudit-"):
                super().emit(record)
            # Without any handler Python writes warnings to stderr, which this handler must not prevent.
            last = logging.lastResort
            if last is not None and record.levelno >= last.level and logging.getLogger().handlers == [self]:
                last.handle(record)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Handler(logger_provider=provider)


def _resource(settings: Settings) -> Any:
    from opentelemetry.sdk.resources import Resource

    return Resource.create({"service.name": settings.service_name})


def _is_grpc(signal: str) -> bool:
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", general).strip().lower() == "grpc"


def _shares_token(settings: Settings, endpoint: str) -> bool:
    """Whether the endpoint is the one of the audit's token, which is sent nowhere else."""
    mine, theirs = urlsplit(settings.endpoint), urlsplit(endpoint)
    return settings.token_file is not None and (mine.scheme, mine.netloc) == (theirs.scheme, theirs.netloc)


def _http_options(settings: Settings, endpoint: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.ca_file is not None and "OTEL_EXPORTER_OTLP_CERTIFICATE" not in os.environ:
        options["certificate_file"] = str(settings.ca_file)
    if settings.client_cert_file is not None and "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" not in os.environ:
        options["client_certificate_file"] = str(settings.client_cert_file)
        options["client_key_file"] = str(settings.client_key_file) if settings.client_key_file else None
    if settings.token_file is not None and _shares_token(settings, endpoint):
        import requests

        session = requests.Session()
        session.auth = _Bearer(settings.token_file)
        options["session"] = session
    return options


def _grpc_headers(settings: Settings, endpoint: str) -> dict[str, str] | None:
    if settings.token_file is None or not _shares_token(settings, endpoint):
        return None
    return {"authorization": f"Bearer {settings.token_file.read_text(encoding='utf-8').strip()}"}


class _Bearer:
    """Adds the token to each request, read each time: it may be rotated, and is not kept in memory or environment."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: Any) -> Any:
        request.headers["authorization"] = f"Bearer {self._path.read_text(encoding='utf-8').strip()}"
        return request
