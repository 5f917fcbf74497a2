"""Servers of WSGI applications say when a service starts and stops, by what they do."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest

from mlaudit.capture import request_context
from mlaudit.testing import AuditLog

Hooked = Callable[..., AbstractContextManager[AuditLog]]


def application(_: Any, start_response: Any) -> Any:
    """Answers nothing."""
    start_response("204 No Content", [])
    return []


class Werkzeug:
    """Werkzeug's development server."""

    name = "werkzeug"

    def __init__(self) -> None:
        self.server = importlib.import_module("werkzeug.serving").make_server("127.0.0.1", 0, application)
        self.serve, self.stop = self.server.serve_forever, self.server.shutdown


class Waitress:
    """Waitress."""

    name = "waitress"

    def __init__(self) -> None:
        waitress = pytest.importorskip("waitress")
        self.server = waitress.create_server(application, host="127.0.0.1", port=0)
        self.serve, self.stop = self.server.run, self._stop

    def _stop(self) -> None:
        self.server.trigger.pull_trigger(
            self.server.close
        )  # in the loop's own thread, which then has nothing left


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the rest of the capture hears."""
    heard: list[str] = []
    monkeypatch.setattr(request_context, "service_started", lambda: heard.append("started"))
    monkeypatch.setattr(request_context, "service_stopping", lambda: heard.append("stopping"))
    return heard


@pytest.mark.parametrize("kind", [Werkzeug, Waitress])
def test_a_serving_loop_is_the_life_of_the_service(hooked: Hooked, recorded: list[str], kind: Any) -> None:
    """Started before the first request, stopping when the loop is over."""
    pytest.importorskip(kind.name)
    with hooked(kind.name):
        running = kind()
        thread = threading.Thread(target=running.serve, daemon=True)
        thread.start()
        running.stop()
        thread.join(20)
        assert not thread.is_alive()
    assert recorded == ["started", "stopping"]


def test_a_worker_of_gunicorn_has_started_when_its_application_is_loaded(
    hooked: Hooked, recorded: list[str]
) -> None:
    """Not when the application could not be loaded, and not for ASGI workers, which have a lifespan."""
    base = pytest.importorskip("gunicorn.workers.base")
    sync = importlib.import_module("gunicorn.workers.sync")
    with hooked("gunicorn"):
        for cls in (sync.SyncWorker, base.Worker):
            worker = object.__new__(cls)
            worker.app = SimpleNamespace(wsgi=lambda: application)
            worker.load_wsgi()
        worker = object.__new__(sync.SyncWorker)
        with pytest.raises(AttributeError):
            worker.load_wsgi()
    assert recorded == ["started"]


@pytest.mark.parametrize("kind", [Werkzeug, Waitress])
def test_a_broken_hook_leaves_the_server_as_it_is(
    hooked: Hooked, recorded: list[str], broken: str, kind: Any
) -> None:
    """It serves and stops, and the fault is reported."""
    pytest.importorskip(kind.name)
    with hooked(kind.name) as log:
        running = kind()
        thread = threading.Thread(target=running.serve, daemon=True)
        thread.start()
        running.stop()
        thread.join(20)
        assert not thread.is_alive()
        assert log.of("audit.pipeline.failure")[0]["audit.component"] == "capture.wsgi_servers"
    assert len(recorded) == (0 if broken == "before" else 1)
