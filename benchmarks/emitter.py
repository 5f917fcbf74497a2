"""The measured process: emits records by one of the two ways and waits until all are acknowledged.

``python -m benchmarks.emitter mlaudit|sdk ENDPOINT MOST`` answers each line ``{"records": n}`` with their cost.
Attributes are created beforehand and excluded from garbage collection, the same for both ways: a service has them
anyway.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.attributes import attributes_of, user_of

KIND = "audit.ml.prediction"
_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 60.0

Prepared = Sequence[tuple[str, dict[str, Any]]]
Emit = Callable[[Prepared], None]
Finish = Callable[[], None]


def mlaudit_way() -> tuple[Emit, Finish]:
    """The real pipeline: built-in policy, redaction, seal, spool on disk, sender. Set up by ``MLAUDIT_*``."""
    from mlaudit.deliver.send.delivery import SpooledDelivery
    from mlaudit.event import Actor, AuditEvent, Target
    from mlaudit.pipeline import current

    pipeline = current.pipeline()
    assert pipeline is not None
    assert pipeline.stream is not None
    delivery = pipeline.stream.delivery
    assert isinstance(delivery, SpooledDelivery)
    spool = delivery.spool
    target = Target("model", "fraud@3")

    def emit(prepared: Prepared) -> None:
        for user, attributes in prepared:
            receipt = pipeline.emit(
                AuditEvent(KIND, actor=Actor(user, method="authenticated"), target=target, fields=attributes)
            )
            assert receipt.ok

    def finish() -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while spool.unacknowledged:
            assert time.monotonic() < deadline, "the receiver did not acknowledge everything"
            time.sleep(_POLL_SECONDS)

    return emit, finish


def sdk_way(endpoint: str, most: int) -> tuple[Emit, Finish]:
    """The SDK's batch path with default settings, except for a queue of ``most``: the default would drop records."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(resource=Resource.create({"service.name": "benchmark"}))
    processor = BatchLogRecordProcessor(OTLPLogExporter(endpoint=endpoint), max_queue_size=most)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("benchmark", "1")

    def emit(prepared: Prepared) -> None:
        for user, attributes in prepared:
            logger.emit(
                LogRecord(
                    timestamp=time.time_ns(),
                    severity_number=SeverityNumber.INFO,
                    event_name=KIND,
                    body=f"{user} asked model fraud for a prediction",
                    attributes=attributes,
                )
            )

    def finish() -> None:
        assert provider.force_flush(int(_PATIENCE_SECONDS * 1000))

    return emit, finish


def main() -> None:
    """Answers requests until stdin ends."""
    way, endpoint, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
    emit, finish = mlaudit_way() if way == "mlaudit" else sdk_way(endpoint, most)
    source = random.Random(0)
    done = 0
    for line in sys.stdin:
        count: int = json.loads(line)["records"]
        prepared = [(user_of(index), attributes_of(index, source)) for index in range(done, done + count)]
        done += count
        gc.collect()
        gc.freeze()
        begin, begin_cpu = time.perf_counter(), time.process_time()
        emit(prepared)
        emitted = time.perf_counter()
        finish()
        end, end_cpu = time.perf_counter(), time.process_time()
        gc.unfreeze()
        answer = {
            "records": count,
            "cpu_us_per_record": (end_cpu - begin_cpu) / count * 1e6,
            "emit_seconds": emitted - begin,
            "acknowledged_seconds": end - begin,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
