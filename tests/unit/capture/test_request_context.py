"""What the capture hooks share."""

from __future__ import annotations

import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlaudit.capture import request_context
from mlaudit.capture.request_context import ModelUse, RequestTrail, current_request, open_trail


def test_what_a_thread_writes_into_the_trail_is_seen_outside() -> None:
    """A copy of the context shares the trail: the endpoint's thread and the request's layer see the same one."""
    trail = RequestTrail()
    context = contextvars.copy_context()
    context.run(current_request.set, trail)

    def endpoint() -> None:
        found = open_trail()
        assert found is not None
        found.models.append(ModelUse("m"))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(context.copy().run, endpoint).result()
    assert [use.name for use in trail.models] == ["m"]


def test_a_closed_trail_is_no_trail() -> None:
    """After the request's record is written, hooks make records of their own."""
    trail = RequestTrail()
    token = current_request.set(trail)
    try:
        assert open_trail() is trail
        trail.closed = True
        assert open_trail() is None
    finally:
        current_request.reset(token)
    assert open_trail() is None


def test_a_lifecycle_callback_that_fails_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Callbacks run in order, each once however often it was registered, and each contained."""
    monkeypatch.setattr(request_context, "_stopping", [])
    monkeypatch.setattr(request_context, "_started", [])
    ran: list[str] = []

    def bad() -> None:
        ran.append("bad")
        raise RuntimeError

    def good() -> None:
        ran.append("good")

    for callback in (bad, good, bad):
        request_context.on_service_stopping(callback)
    request_context.on_service_started(good)
    with caplog.at_level(logging.ERROR, "mlaudit"):
        request_context.service_stopping()
    assert ran == ["bad", "good"]
    assert "lifecycle callback failed" in caplog.text
    request_context.service_started()
    assert ran == ["bad", "good", "good"]
