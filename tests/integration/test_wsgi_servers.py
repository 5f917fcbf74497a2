"""Flask and Django behind real servers: every answered request is in the spool, however the process ends."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.integration.served import Load, environment, of, records, request, started

FLASK = """
from flask import Flask, jsonify, request

app = Flask(__name__)

@app.get("/status")
def status():
    return jsonify(ok=True)

@app.get("/stream")
def stream():
    return app.response_class(iter([b"a" * 1000] * 3))

@app.post("/predict")
def predict():
    return jsonify(sum=sum(request.get_json()))
"""
DJANGO = """
import os
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x" * 50, MIDDLEWARE=[])

def status(request):
    return JsonResponse({"ok": True})

urlpatterns = [path("status", status)]

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

app = get_asgi_application() if os.environ.get("INTERFACE") == "asgi" else get_wsgi_application()
"""
GUNICORN = [
    *(sys.executable, "-W", "ignore", "-m", "gunicorn", "app:app", "-b", "127.0.0.1:0", "-w", "2"),
    *("--graceful-timeout", "10", "--no-control-socket"),
]
WERKZEUG = [sys.executable, "-m", "flask", "run", "--port", "0"]
UVICORN = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--no-access-log"]
LISTENING = r"(?:[Rr]unning on|Listening at:) http://127\.0\.0\.1:(\d+)"


def folder_with(tmp_path: Path, service: str) -> Path:
    """A folder with a service that does not mention auditing."""
    (tmp_path / "app.py").write_text(service)
    return tmp_path


@pytest.mark.parametrize("path", ["/status", "/stream"])
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(GUNICORN, id="gunicorn-sync"),
        pytest.param([*GUNICORN, "-k", "gthread", "--threads", "4"], id="gunicorn-gthread"),
        pytest.param([*GUNICORN, "--preload"], id="gunicorn-preload"),
        pytest.param(WERKZEUG, id="werkzeug"),
    ],
)
def test_every_answered_request_is_in_the_spool_after_sigterm(
    tmp_path: Path, command: list[str], path: str
) -> None:
    """SIGTERM under load: each answered request has exactly one record, and the stream ends properly."""
    folder = folder_with(tmp_path, FLASK)
    state = folder / "state"
    with started(command, folder, environment(state)) as server:
        port = int(server.wait_for(LISTENING)[1])
        with Load(port, path) as load:
            load.wait(100)
            code = server.stop()
    found = records(state)
    recorded = Counter(record["http.request.id"] for record in of("audit.api.request", found))
    assert code in (0, -signal.SIGTERM), server.output
    assert "Traceback" not in server.output
    assert set(load.answered) <= set(recorded)
    assert set(recorded.values()) == {1}
    assert len(of("audit.service.started", found)) == len(of("audit.service.stopped", found)) >= 1
    assert len(of("audit.stream.started", found)) == len(of("audit.stream.ended", found))


def test_every_answered_request_is_in_the_spool_after_sigkill(tmp_path: Path) -> None:
    """SIGKILL under load loses no record of an answered request."""
    folder = folder_with(tmp_path, FLASK)
    state = folder / "state"
    with started(WERKZEUG, folder, environment(state)) as server:
        port = int(server.wait_for(LISTENING)[1])
        with Load(port, "/status") as load:
            load.wait(100)
            server.stop(signal.SIGKILL)
    recorded = {record["http.request.id"] for record in of("audit.api.request", records(state))}
    assert set(load.answered) <= recorded


@pytest.mark.parametrize(
    ("command", "processes"), [(GUNICORN, 2), (WERKZEUG, 1)], ids=["gunicorn", "werkzeug"]
)
def test_the_trail_begins_before_the_first_request(
    tmp_path: Path, command: list[str], processes: int
) -> None:
    """A service without requests leaves its start and its stop."""
    folder = folder_with(tmp_path, FLASK)
    state = folder / "state"
    with started(command, folder, environment(state)) as server:
        server.wait_for(LISTENING)
        deadline = time.monotonic() + 30
        while not (state.exists() and len(of("audit.service.started", records(state))) == processes):
            assert time.monotonic() < deadline, server.output
            time.sleep(0.05)
        server.stop()
    found = records(state)
    assert len(of("audit.service.started", found)) == len(of("audit.service.stopped", found)) == processes
    assert "audit.api.request" not in {record["audit.kind"] for record in found}


def test_a_prediction_is_recorded_as_one(tmp_path: Path) -> None:
    """A prediction through a real server has its body's digest and the client's address."""
    folder = folder_with(tmp_path, FLASK)
    state = folder / "state"
    with started(GUNICORN, folder, environment(state)) as server:
        port = int(server.wait_for(LISTENING)[1])
        status, *_ = request(port, "POST", "/predict", b"[1, 2]")
        assert status == 200
        server.stop()
    (record,) = of("audit.ml.prediction", records(state))
    assert record["http.request.body.bytes"] == 6
    assert record["http.route"] == "/predict"
    assert record["source.ip"] == "127.0.0.0"


@pytest.mark.parametrize(
    ("command", "interface"),
    [
        pytest.param(GUNICORN, "wsgi", id="gunicorn"),
        pytest.param(UVICORN, "asgi", id="uvicorn"),
        pytest.param([*GUNICORN, "-k", "uvicorn.workers.UvicornWorker"], "asgi", id="gunicorn-uvicorn"),
    ],
)
def test_django_behind_real_servers(tmp_path: Path, command: list[str], interface: str) -> None:
    """SIGTERM under load, as with other frameworks; Django's ASGI application has no lifespan events."""
    folder = folder_with(tmp_path, DJANGO)
    state = folder / "state"
    with started(command, folder, environment(state, INTERFACE=interface)) as server:
        port = int(server.wait_for(LISTENING)[1])
        with Load(port, "/status") as load:
            load.wait(50)
            server.stop()
    found = records(state)
    recorded = Counter(record["http.request.id"] for record in of("audit.api.request", found))
    assert set(load.answered) <= set(recorded)
    assert set(recorded.values()) == {1}
    assert len(of("audit.service.started", found)) == len(of("audit.service.stopped", found)) >= 1
    assert len(of("audit.stream.started", found)) == len(of("audit.stream.ended", found))
