"""Adds the audit's span processor and log processor to OpenTelemetry's providers."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs, trace

from mlaudit.capture.telemetry.logs import AuditLogProcessor
from mlaudit.capture.telemetry.sampler import RecordingSampler
from mlaudit.capture.telemetry.spans import AuditSpanProcessor

if TYPE_CHECKING:
    from collections.abc import MutableSet

_attached: MutableSet[Any] = weakref.WeakSet()
launched: Final = {"by opentelemetry-instrument": False}


def attach_to_current_providers() -> None:
    """Attaches to the providers that are set; a proxy for a later one is skipped."""
    attach_to_tracer_provider(trace.get_tracer_provider())
    attach_to_logger_provider(_logs.get_logger_provider())


def attach_to_tracer_provider(tracer_provider: Any) -> None:
    """Adds the span processor, and ensures that spans which the sampler drops still reach it."""
    add = getattr(tracer_provider, "add_span_processor", None)
    if add is None or tracer_provider in _attached:
        return
    _attached.add(tracer_provider)
    sampler = getattr(tracer_provider, "sampler", None)
    if sampler is not None and not isinstance(sampler, RecordingSampler):
        recording = RecordingSampler(sampler)
        tracer_provider.sampler = recording
        # Tracers made before hold the sampler themselves.
        for tracer in tuple(getattr(tracer_provider, "_tracers", {}).values()):
            tracer.sampler = recording
    add(AuditSpanProcessor())


def attach_to_logger_provider(logger_provider: Any) -> None:
    """Adds the log processor."""
    add = getattr(logger_provider, "add_log_record_processor", None)
    if add is None or logger_provider in _attached:
        return
    _attached.add(logger_provider)
    add(AuditLogProcessor())


def leave_to_launcher() -> None:
    """Notes that ``opentelemetry-instrument`` runs this process: then mlaudit does not start OpenTelemetry."""
    launched["by opentelemetry-instrument"] = True
