"""A FastAPI service under load: plain, traced by OpenTelemetry, audited, and both.

Each variant is a separate server process; all are pinned to one core and alternate, the load and the receiver
share the other core. The order rotates by one place each round. After a round the receiver must have the record of
each audited request; otherwise the measurement fails.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import median_of, spread
from benchmarks.load import Order
from benchmarks.processes import Child, ChildError, child, cores, cpu_seconds, server, tail

PLAIN, TRACED, AUDITED, BOTH = "plain", "traced", "audited", "audited+traced"
VARIANTS = (PLAIN, TRACED, AUDITED, BOTH)
GOAL = 0.8
CONNECTIONS = 8
_START_SECONDS = 60.0
_DRAIN_SECONDS = 20.0
_SPAN_DELAY_SECONDS = 0.5
_FIGURES = ("requests_per_second", "server_cpu_us_per_request", "p50_ms", "p99_ms")


@dataclass(frozen=True)
class Route:
    """A request, and the kind of its expected record."""

    method: str
    path: str
    body: str
    kind: str


ROUTES = {
    "noop": Route("GET", "/noop", "", "audit.api.request"),
    "predict": Route("POST", "/predict", '{"rows": [[5.1, 3.5, 1.4, 0.2]]}', "audit.ml.prediction"),
}


@dataclass(frozen=True)
class _Server:
    variant: str
    pid: int
    port: int


def measure(
    folder: Path,
    receiver: Child,
    receiver_port: int,
    *,
    rounds: int,
    seconds: float,
    variants: Sequence[str],
    routes: Sequence[str],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Runs ``rounds`` of ``seconds`` for each variant and route.

    Raises:
        ChildError: a process failed, a request was answered badly, or a record is missing.
    """
    mine, theirs = cores()
    model = _make_model(folder) if "predict" in routes else None
    found: dict[str, list[dict[str, Any]]] = {route: [] for route in routes}
    with ExitStack() as stack:
        load = stack.enter_context(child("load", core=theirs, log=folder / "load.log"))
        tell("starting the servers")
        servers = [
            stack.enter_context(_started(variant, folder, receiver_port, model)) for variant in variants
        ]
        for number in range(rounds + 1):  # the first warms up
            for route in routes:
                tell(f"{route} under load, round {number} of {rounds}" if number else f"{route}, warming up")
                turned = servers[number % len(servers) :] + servers[: number % len(servers)]
                length = seconds if number else min(seconds, 0.5)
                results = {one.variant: _one(one, load, receiver, route, length) for one in turned}
                if number:
                    found[route].append({variant: results[variant] for variant in variants})
    return {
        "settings": {
            "rounds": rounds,
            "seconds": seconds,
            "connections": CONNECTIONS,
            "server": "uvicorn, 1 worker, uvloop, httptools, no access log",
            "server_core": mine,
            "load_and_receiver_core": theirs,
            "traced": "opentelemetry-instrument: SDK, FastAPI instrumentation, batch processor, OTLP http/protobuf",
            "audited": "MLAUDIT_ENABLED=true, built-in policy",
        },
        "routes": {route: _summary(found[route], variants) for route in routes},
    }


def _summary(rounds: list[dict[str, Any]], variants: Sequence[str]) -> dict[str, Any]:
    pairs = [(AUDITED, PLAIN), (TRACED, PLAIN), (BOTH, TRACED), (AUDITED, TRACED)]
    return {
        "rounds": rounds,
        "medians": {variant: median_of([one[variant] for one in rounds], _FIGURES) for variant in variants},
        "ratios": {
            f"{upper}/{lower}": {
                figure: spread(one[upper][figure] / one[lower][figure] for one in rounds)
                for figure in ("requests_per_second", "server_cpu_us_per_request")
            }
            for upper, lower in pairs
            if upper in variants and lower in variants
        },
    }


def _one(one: _Server, load: Child, receiver: Child, name: str, seconds: float) -> dict[str, Any]:
    route = ROUTES[name]
    before, cpu_before = receiver.ask({}), cpu_seconds(one.pid)
    order = Order(one.port, route.method, route.path, route.body, CONNECTIONS, seconds)
    result = load.ask(order._asdict())
    if result["bad_answers"]:
        raise ChildError(f"{one.variant}: {result['bad_answers']} answers to {name} were not 200")
    audited = one.variant in (AUDITED, BOTH)
    drained = _drained(receiver, before, {route.kind: result["requests"]} if audited else {}, one.variant)
    result["server_cpu_us_per_request"] = (cpu_seconds(one.pid) - cpu_before) / result["requests"] * 1e6
    if audited:
        result["records"] = drained[route.kind]
    if one.variant in (TRACED, BOTH):
        result["server_spans"] = drained.get("SPAN_KIND_SERVER", 0)
    return result


def _drained(
    receiver: Child, before: Mapping[str, int], expected: Mapping[str, int], variant: str
) -> dict[str, int]:
    """Waits until sending ends, which is part of the cost, and counts the records that arrived."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    quiet = 2 * _SPAN_DELAY_SECONDS if variant in (TRACED, BOTH) else 0.0
    last: dict[str, int] = {}
    since = time.monotonic()
    while True:
        now = receiver.ask({})
        if now != last:
            last, since = now, time.monotonic()
        arrived = {name: now[name] - before.get(name, 0) for name in now}
        missing = {name: count for name, count in expected.items() if arrived.get(name, 0) != count}
        if not missing and time.monotonic() - since >= quiet:
            return arrived
        if time.monotonic() > deadline:
            raise ChildError(f"{variant}: expected {expected} at the receiver, found {arrived}")
        time.sleep(0.02)


@contextmanager
def _started(variant: str, folder: Path, receiver_port: int, model: Path | None) -> Iterator[_Server]:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.application:app", "--port", "0"]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    if variant in (TRACED, BOTH):
        command.insert(0, str(Path(sys.executable).with_name("opentelemetry-instrument")))
    log = folder / f"server-{variant}.log"
    environment = _environment(variant, folder, receiver_port, model)
    with server(command, core=cores()[0], log=log, environment=environment) as pid:
        deadline = time.monotonic() + _START_SECONDS
        while not (running := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())):
            if time.monotonic() > deadline:
                raise ChildError(f"{variant}: the server did not start:\n{tail(log)}")
            time.sleep(0.05)
        yield _Server(variant, pid, int(running[1]))


def _environment(variant: str, folder: Path, receiver_port: int, model: Path | None) -> dict[str, str]:
    environment = {"BENCHMARK_MODEL": str(model)} if model else {}
    base = f"http://127.0.0.1:{receiver_port}"
    if variant in (TRACED, BOTH):
        environment |= {
            "OTEL_SERVICE_NAME": "benchmark",
            "OTEL_EXPORTER_OTLP_ENDPOINT": base,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": str(int(_SPAN_DELAY_SECONDS * 1000)),
        }
    if variant in (AUDITED, BOTH):
        environment |= {
            "MLAUDIT_ENABLED": "true",
            "MLAUDIT_SERVICE_NAME": "benchmark",
            "MLAUDIT_STATE_DIR": str(folder / variant),
            "MLAUDIT_ENDPOINT": f"{base}/v1/logs",
        }
    return environment


def _make_model(folder: Path) -> Path:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    path = folder / "iris.joblib"
    data, target = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(data, target), path)
    return path
