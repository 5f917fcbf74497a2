"""Services behind real servers: every answered request is in the spool, however the process ends."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.integration.served import SERVICE, Load, environment, of, records, request, started

UVICORN = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--no-access-log"]
GUNICORN = [
    *(sys.executable, "-W", "ignore", "-m", "gunicorn", "app:app", "-b", "127.0.0.1:0"),
    *("-k", "uvicorn.workers.UvicornWorker", "--graceful-timeout", "10", "--no-control-socket"),
]
LAUNCHER = [str(Path(sys.executable).parent / "opentelemetry-instrument")]
LISTENING = r"(?:running on|Listening at:) http://127\.0\.0\.1:(\d+)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a service that does not mention auditing."""
    (tmp_path / "app.py").write_text(SERVICE)
    return tmp_path


@pytest.mark.parametrize("path", ["/status", "/stream"])
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(UVICORN, id="uvicorn"),
        pytest.param([*GUNICORN, "-w", "2"], id="gunicorn"),
        pytest.param([*GUNICORN, "-w", "2", "--preload"], id="gunicorn-preload"),
    ],
)
def test_every_answered_request_is_in_the_spool_after_sigterm(
    folder: Path, command: list[str], path: str
) -> None:
    """SIGTERM under load: each answered request has exactly one record, and the stream ends properly."""
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


def test_every_answered_request_is_in_the_spool_after_sigkill(folder: Path) -> None:
    """SIGKILL under load loses no record of an answered request."""
    state = folder / "state"
    with started(UVICORN, folder, environment(state)) as server:
        port = int(server.wait_for(LISTENING)[1])
        with Load(port) as load:
            load.wait(100)
            server.stop(signal.SIGKILL)
    recorded = {record["http.request.id"] for record in of("audit.api.request", records(state))}
    assert set(load.answered) <= recorded


def test_uvicorn_with_several_worker_processes(folder: Path) -> None:
    """Uvicorn's own workers are spawned: each worker has its own trail, the supervisor has none."""
    state = folder / "state"
    with started([*UVICORN, "--workers", "2"], folder, environment(state)) as server:
        port = int(server.wait_for(LISTENING)[1])
        server.wait_for("Application startup complete")
        with Load(port) as load:
            load.wait(50)
            server.stop()
    found = records(state)
    recorded = {record["http.request.id"] for record in of("audit.api.request", found)}
    assert set(load.answered) <= recorded
    assert server.popen.pid not in {record["process.pid"] for record in found}


def test_the_trail_begins_before_the_first_request(folder: Path) -> None:
    """A service without requests leaves its start and its stop."""
    state = folder / "state"
    with started(UVICORN, folder, environment(state)) as server:
        server.wait_for("Application startup complete")
        kinds = [record["audit.kind"] for record in records(state)]
        server.stop()
    assert kinds[:2] == ["audit.stream.started", "audit.policy.loaded"]
    assert "audit.service.started" in kinds
    assert [record["audit.kind"] for record in records(state)][-2:] == [
        "audit.service.stopped",
        "audit.stream.ended",
    ]


def test_off_means_off(folder: Path) -> None:
    """Without the variable the same service records nothing and loads nothing of mlaudit."""
    state = folder / "state"
    env = environment(state, MLAUDIT_ENABLED="false")
    with started(UVICORN, folder, env) as server:
        port = int(server.wait_for(LISTENING)[1])
        assert request(port)[0] == 200
        server.stop()
    assert not state.exists()


@pytest.mark.parametrize("sampler", ["always_off", "always_on"])
@pytest.mark.parametrize("server", [UVICORN, [*GUNICORN, "-w", "1"]], ids=["uvicorn", "gunicorn"])
def test_under_the_launcher_the_trail_is_complete_whatever_is_sampled(
    folder: Path, server: list[str], sampler: str
) -> None:
    """``opentelemetry-instrument`` and the ``.pth`` file together: one record for each request, with its trace."""
    state = folder / "state"
    env = environment(
        state,
        OTEL_TRACES_SAMPLER=sampler,
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    command = [*LAUNCHER, *server]
    with started(command, folder, env) as process:
        port = int(process.wait_for(LISTENING)[1])
        assert request(port, "POST", "/predict", b"[1, 2]", Authorization="Basic YWxpY2U6eA==")[0] == 200
        assert request(port, "GET", "/status")[0] == 200
        if sampler == "always_on":  # the SDK's batches do not survive SIGTERM
            process.wait_for(r'"name": "GET /status"')
        process.stop()
    found = records(state)
    (ping,) = of("audit.api.request", found)
    span, answer = of("audit.ml.prediction", found)
    assert ping["trace.id"] != span["trace.id"]
    assert span["gen_ai.request.model"] == "gpt-x"
    assert answer["http.route"] == "/predict"
    assert span["trace.id"] == answer["trace.id"]
    assert span["span.id"] != answer["span.id"]
    exported = '"name": "chat"' in process.output
    assert exported is (sampler == "always_on")
    if exported:
        assert process.output.count('"kind": "SpanKind.SERVER"') == 2
        assert answer["audit.record.id"] in process.output
        assert span["audit.record.id"] in process.output


def test_a_wrong_setting_is_said_loudly_and_the_service_runs(folder: Path) -> None:
    """Auditing that cannot start reports every fault on stderr, and the service runs."""
    state = folder / "state"
    env = environment(state, MLAUDIT_COMPRESSION="zip", MLAUDIT_BODY_LIMIT="many")
    with started(UVICORN, folder, env) as server:
        port = int(server.wait_for(LISTENING)[1])
        assert request(port)[0] == 200
        server.stop()
    assert "AUDITING IS OFF" in server.output
    assert "MLAUDIT_COMPRESSION" in server.output
    assert "MLAUDIT_BODY_LIMIT" in server.output
    assert not (state / "spool").exists()


def test_an_unreadable_policy_is_said_loudly_and_the_service_runs(folder: Path) -> None:
    """A policy with an unknown key is fatal for auditing, not for the service."""
    state = folder / "state"
    (folder / "policy.yaml").write_text("version: 1\nrulez: []\n")
    env = environment(state, MLAUDIT_POLICY=str(folder / "policy.yaml"))
    with started(UVICORN, folder, env) as server:
        port = int(server.wait_for(LISTENING)[1])
        assert request(port)[0] == 200
        server.stop()
    assert "AUDITING IS OFF" in server.output
    assert "rulez" in server.output
