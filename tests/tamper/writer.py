"""One audited process of the trail that is tampered with; ``python -m tests.tamper.writer COUNT END``.

Emits events of every kind and class, signs every 40 records, and ends as specified: ``end``, ``kill`` (SIGKILL, nothing
more is written), ``fork`` (a child writes a stream of its own before the end) or ``open`` (stays until it is killed).
"""

from __future__ import annotations

import os
import signal
import sys
import time

from mlaudit.catalog.names import KINDS
from mlaudit.deliver.spool import files, layout
from mlaudit.event import Actor, AuditEvent, Target
from mlaudit.pipeline import current

EVERY = 40
OWN = [
    kind
    for kind in KINDS
    if not kind.startswith(("audit.stream.", "audit.policy.", "audit.pipeline.", "audit.app."))
] + ["audit.app.report.exported"]


def event(number: int) -> AuditEvent:
    """The event with this number: kinds alternate, every second one is a prediction; fields of every type."""
    kind = "audit.ml.prediction" if number % 2 else OWN[number // 2 % len(OWN)]
    fields = {
        "event.duration": number * 1000,
        "http.response.status_code": 200 + number % 5,
        "labels": {"team": f"risk-{number % 3}", "batch": str(number)},
        "ml.model.name": 'fraud “naïve” \u2028 😀 "quoted"',
        "ml.models": ["fraud", f"backup-{number % 2}"],
        "ml.prediction.batch": number % 3 == 0,
        "ml.prediction.rows": number,
        "ml.training.best_score": number / 7,
        "ml.training.parameters": {"depth": number, "rate": 0.1, "flag": True},
        "source.ip": f"192.0.2.{number % 250}",
        "url.path": f"/v1/predict/{number}",
    }
    return AuditEvent(
        kind,
        "failure" if number % 11 == 0 else "success",
        actor=Actor(f"user-{number % 7}"),
        target=Target("model", "fraud@3"),
        fields=fields,
        trace_id=number + 1 if number % 4 == 0 else 0,
        span_id=number + 1 if number % 4 == 0 else 0,
    )


def write(count: int) -> None:
    """Emits ``count`` events and signs periodically; some follow the last signature."""
    pipeline = current.pipeline()
    assert pipeline is not None
    for number in range(1, count + 1):
        assert pipeline.emit(event(number)).ok
        if number % EVERY == 0:
            stream = pipeline.stream
            assert stream is not None
            stream.checkpoint()


def deliver() -> None:
    """Waits until everything is acknowledged."""
    pipeline = current.pipeline()
    assert pipeline is not None
    assert pipeline.stream is not None
    folder = layout.stream_folder(pipeline.settings.spool_dir, pipeline.stream.id)
    deadline = time.monotonic() + 60
    while (ack := files.read_ack(folder)) is None or ack.sequence < pipeline.stream.head[0]:
        if time.monotonic() > deadline:
            sys.exit("not everything was delivered")
        time.sleep(0.05)


def main() -> None:
    """See the module."""
    count, end = int(sys.argv[1]), sys.argv[2]
    write(count)
    if end == "fork":
        child = os.fork()
        if not child:
            write(count)
        elif os.waitpid(child, 0)[1]:
            sys.exit("the child failed")
    if end == "kill":
        deliver()  # otherwise its last batch is sent twice, which shows in the archive
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "open":
        print("written", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
