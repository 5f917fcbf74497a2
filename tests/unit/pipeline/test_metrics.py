from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.unit.deliver.receiver import TAKEN, Receiver

from mlaudit.deliver.ticket import Ticket
from mlaudit.errors import SpoolFullError
from mlaudit.event import AuditEvent
from mlaudit.pipeline import current, metrics
from mlaudit.pipeline.pipeline import Pipeline

Start = Callable[..., Pipeline]
OWN = {"audit.stream.adopted": False}


class Meter:
    """The real SDK with the audit's instruments."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        metrics.register(current.running, self.provider)

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics
        return [
            point
            for resource in found
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def value(self, name: str, **attributes: Any) -> float:
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(p.value for p in self.points(name) if wanted.items() <= dict(p.attributes).items())


@pytest.fixture
def meter() -> Iterator[Meter]:
    """A reader in memory; the histograms of exports are as they were afterwards."""
    before = list(metrics._histograms)
    made = Meter()
    yield made
    made.provider.shutdown()
    metrics._histograms[:] = before


def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def test_what_is_emitted_is_what_is_exported_once_all_is_acknowledged(
    meter: Meter, start: Start, receiver: Receiver
) -> None:
    """Every sealed record is either exported or still in the queue, and nothing waits at the end."""
    running = start(receiver.endpoint)
    for _ in range(50):
        running.emit(AuditEvent("audit.ml.prediction"))
    until(lambda: meter.value("audit.queue.depth") == 0)
    assert meter.value("audit.records.emitted") == meter.value("audit.records.exported") == 52
    assert len(receiver.taken) == 52
    assert meter.value("audit.spool.oldest.age") == 0
    (duration,) = meter.points("audit.export.duration")
    assert duration.count == len(receiver.requests)
    assert not dict(duration.attributes)


def test_a_sender_that_keeps_failing_is_visible(meter: Meter, start: Start, receiver: Receiver) -> None:
    """Failed requests are measured with their error; what waits has a depth, a size and an age that grow."""
    receiver.script = lambda records, headers: (503, {}, b"")
    running = start(receiver.endpoint)
    running.emit(AuditEvent("audit.ml.prediction"))

    def refused() -> list[Any]:
        # The process may have another sender, of an earlier test, that has no receiver.
        points = meter.points("audit.export.duration")
        return [point for point in points if dict(point.attributes) == {"error.type": "503"}]

    until(lambda: len(refused()) == 1)
    assert meter.value("audit.queue.depth") == 3
    assert meter.value("audit.spool.size") > 1000
    age = meter.value("audit.spool.oldest.age")
    assert 0 < age < 60
    until(lambda: meter.value("audit.spool.oldest.age") > age)
    until(lambda: meter.value("audit.export.failing.duration") > 0)
    receiver.script = lambda records, headers: TAKEN
    until(lambda: meter.value("audit.queue.depth") == 0)
    assert meter.value("audit.export.failing.duration") == 0


def test_a_receiver_that_is_away_is_an_error_type(meter: Meter, start: Start) -> None:
    """Without a receiver the error is the class of the connection's failure."""
    start()
    until(lambda: bool(meter.points("audit.export.duration")))
    assert dict(meter.points("audit.export.duration")[0].attributes) == {"error.type": "NewConnectionError"}


def test_dropped_records_are_counted_by_reason(
    meter: Meter, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly the records that could not be stored, under the reason why; at zero before the first."""
    running = start()
    assert {
        dict(p.attributes)["audit.drop.reason"]: p.value for p in meter.points("audit.records.dropped")
    } == {
        "spool_full": 0,
        "spool_unavailable": 0,
    }
    assert running.stream is not None

    def full(*_: object, **__: object) -> None:
        raise SpoolFullError("full")

    monkeypatch.setattr(running.stream.delivery, "append", full)
    for _ in range(7):
        running.emit(AuditEvent("audit.ml.prediction"))
    assert meter.value("audit.records.dropped", audit__drop__reason="spool_full") == 7
    assert meter.value("audit.records.dropped", error__type="SpoolFullError") == 7
    assert meter.value("audit.records.dropped") == 7


def test_no_drop_is_missed_by_many_threads(
    meter: Meter, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen threads that lose a thousand records each lose sixteen thousand."""
    running = start()
    assert running.stream is not None

    def full(*_: object, **__: object) -> None:
        raise SpoolFullError("full")

    monkeypatch.setattr(running.stream.delivery, "append", full)
    event = AuditEvent("audit.ml.prediction")
    threads = [threading.Thread(target=lambda: [running.emit(event) for _ in range(1000)]) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.value("audit.records.dropped", audit__drop__reason="spool_full") == 16_000


@pytest.mark.parametrize("wait", [True, False])
def test_record_that_the_disk_does_not_confirm_has_a_reason_of_its_own(
    meter: Meter, start: Start, monkeypatch: pytest.MonkeyPatch, wait: bool
) -> None:
    """It is counted once, whether the caller waits for it or not: it may still arrive, and may be missing."""
    running = start()
    assert running.stream is not None
    ticket = Ticket()
    monkeypatch.setattr(running.stream.delivery, "append", lambda *_, **__: ticket)
    threading.Timer(0.05, ticket.settle, [False]).start()
    receipt = running.emit(AuditEvent("audit.service.started"), wait=wait)
    assert not receipt.wait(10)
    until(lambda: meter.value("audit.records.dropped", audit__drop__reason="unconfirmed") == 1)
    assert meter.value("audit.records.dropped") == 1


def test_counts_go_on_when_the_stream_is_replaced(meter: Meter, start: Start, receiver: Receiver) -> None:
    """A counter never falls: what earlier streams of the process did stays in it."""
    running = start(receiver.endpoint)
    running.emit(AuditEvent("audit.ml.prediction"))
    assert running.close("first")
    first = meter.value("audit.records.exported")
    assert first == meter.value("audit.records.emitted") == 4
    running.emit(AuditEvent("audit.ml.prediction"))
    until(lambda: meter.value("audit.records.exported") == 7)
    assert meter.value("audit.records.emitted") == 7


def test_records_left_by_a_dead_process_are_counted_apart(
    meter: Meter, start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    """Records that this process sends for a dead one are not counted as its own."""
    child = os.fork()
    if child == 0:
        start().emit(AuditEvent("audit.ml.prediction"))
        os._exit(9)
    os.waitpid(child, 0)
    start(receiver.endpoint)
    until(lambda: meter.value("audit.records.exported", audit__stream__adopted=True) == 4)
    assert meter.value("audit.records.emitted", audit__stream__adopted=True) == 1  # what closes the stream
    until(lambda: meter.value("audit.records.exported", audit__stream__adopted=False) == 2)


def test_after_a_fork_the_child_measures_its_own_pipeline(meter: Meter, start: Start) -> None:
    """A child has measured nothing until it has a pipeline, and then only its own."""
    start()
    assert meter.value("audit.records.emitted") == 2
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = meter.points("audit.records.emitted")
        start().emit(AuditEvent("audit.ml.prediction"))
        os.write(writing, f"{len(before)} {meter.value('audit.records.emitted'):g}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"0 3"


def test_suppressed_and_refused_are_measured(meter: Meter, start: Start) -> None:
    """Events that the policy excludes and refused actions have counters of their own."""
    running = start()
    running.counts.suppressed = 3
    running.refuse("audit.ml.prediction")
    assert meter.value("audit.records.suppressed") == 3
    assert meter.value("audit.records.refused") == 1


def test_retained_bytes_are_measured(meter: Meter, start: Start, tmp_path: Path) -> None:
    """What is kept for a resend has a size."""
    start()
    assert meter.value("audit.spool.retained.size") == 0
    kept = tmp_path / "spool" / "retained" / "s"
    kept.mkdir(parents=True)
    (kept / "1.seg").write_bytes(b"x" * 100)
    assert meter.value("audit.spool.retained.size") == 100


def test_every_metric_of_the_documentation_is_registered_and_the_other_way_round() -> None:
    """docs/operations.md lists exactly the existing metrics."""
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    named = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `audit.")}
    assert named == {name for name, *_ in metrics.INSTRUMENTS} | {metrics.DURATION[0]}


def test_a_process_without_metrics_imports_neither_api_nor_sdk(tmp_path: Path) -> None:
    """Auditing alone loads no part of OpenTelemetry's metrics."""
    code = (
        "import sys, mlaudit\n"
        "from mlaudit.capture.instrumentor import activate; activate()\n"
        "mlaudit.record('audit.app.thing.done')\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.metrics'))])"
    )
    env = {"MLAUDIT_ENABLED": "true", "MLAUDIT_STATE_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"MLAUDIT_SHUTDOWN_SECONDS": "0"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def test_metrics_are_there_when_the_service_sets_its_provider_later(tmp_path: Path) -> None:
    """A service that makes its own meter provider, after auditing has begun, exports the audit's metrics too."""
    code = (
        "import mlaudit\n"
        "from mlaudit.capture.instrumentor import activate; activate()\n"
        "mlaudit.record('audit.app.thing.done')\n"
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "reader = InMemoryMetricReader()\n"
        "metrics.set_meter_provider(MeterProvider([reader]))\n"
        "data = reader.get_metrics_data()\n"
        "print([m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics])"
    )
    env = {"MLAUDIT_ENABLED": "true", "MLAUDIT_STATE_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"MLAUDIT_SHUTDOWN_SECONDS": "0"},
        capture_output=True,
        text=True,
    )
    assert "'audit.records.emitted'" in done.stdout, done.stdout + done.stderr


def test_metrics_are_there_under_the_launcher(tmp_path: Path) -> None:
    """With ``opentelemetry-instrument`` and a metrics exporter the audit's metrics are exported without code."""
    code = (
        "import mlaudit\n"
        "mlaudit.record('audit.app.thing.done')\n"
        "from opentelemetry import metrics\n"
        "metrics.get_meter_provider().force_flush()\n"
    )
    env = {
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_STATE_DIR": str(tmp_path),
        "MLAUDIT_SHUTDOWN_SECONDS": "0",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["opentelemetry-instrument", sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    for name in ("audit.records.emitted", "audit.records.dropped", "audit.queue.depth"):
        assert f'"name": "{name}"' in done.stdout, done.stdout + done.stderr
