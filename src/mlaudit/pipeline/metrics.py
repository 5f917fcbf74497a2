"""The audit's own metrics, for any meter provider of the process; names of the OTel audit draft, and further ones.

Nothing is imported or registered until the process imports ``opentelemetry.metrics``. Counters are observable: the
collecting thread reads what the pipeline and its senders count anyway. Only the duration of a request is recorded
synchronously, in the sender's thread.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlaudit.deliver.send.tally import Totals
    from mlaudit.pipeline.pipeline import Pipeline

METRICS_API: Final = "opentelemetry.metrics"
#: Attributes of the points: whose stream, and why a record could not be stored.
ADOPTED: Final = "audit.stream.adopted"
DROP_REASON: Final = "audit.drop.reason"
#: In the order of docs/operations.md: name, instrument, unit, description.
INSTRUMENTS: Final = (
    (
        "audit.records.emitted",
        "counter",
        "{record}",
        "Records sealed into the spool, the trail's own included.",
    ),
    ("audit.records.exported", "counter", "{record}", "Records that the receiver acknowledged."),
    ("audit.records.dropped", "counter", "{record}", "Records that could not be stored, by reason."),
    (
        "audit.records.refused",
        "counter",
        "{record}",
        "Actions refused because they could not be recorded.",
    ),
    ("audit.records.suppressed", "counter", "{record}", "Events that the policy excludes."),
    (
        "audit.records.set_aside",
        "counter",
        "{record}",
        "Records that the receiver rejects, kept in quarantine.",
    ),
    ("audit.capture.faults", "counter", "{fault}", "Contained faults of capture and record."),
    ("audit.queue.depth", "updowncounter", "{record}", "Records in the spool without acknowledgement."),
    ("audit.spool.size", "updowncounter", "By", "Bytes in the spool without acknowledgement."),
    ("audit.spool.limit", "gauge", "By", "How many bytes a process may hold without acknowledgement."),
    ("audit.spool.retained.size", "gauge", "By", "Bytes of acknowledged segments kept for mlaudit resend."),
    ("audit.spool.oldest.age", "gauge", "s", "Age of the oldest record without acknowledgement."),
    (
        "audit.export.failing.duration",
        "gauge",
        "s",
        "How long requests have failed without an acknowledgement.",
    ),
)
DURATION: Final = (
    "audit.export.duration",
    "s",
    "Duration of requests to the receiver, with error.type if failed.",
)
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REASONS: Final = {
    "SpoolFullError": "spool_full",
    "DiskFullError": "disk_full",
    "UnconfirmedError": "unconfirmed",
    "SpoolUnavailableError": "spool_unavailable",
    "SpoolError": "spool_unavailable",
    "KeyFileError": "key_unusable",
}

Measured = tuple[float, dict[str, Any]]

_installed = False
_histograms: Final[list[Any]] = []


def install(running: Callable[[], Pipeline | None]) -> None:
    """Registers the instruments once the metrics API is loaded: now, or when it is imported. Idempotent.

    Args:
        running: returns the pipeline to measure, another one after a fork; None before the first event.
    """
    global _installed
    if not _installed:
        _installed = True
        wrapt.register_post_import_hook(lambda _: register(running), METRICS_API)


def register(running: Callable[[], Pipeline | None], provider: Any = None) -> None:
    """Registers the instruments with ``provider``; None for the process's own, which may still be set later."""
    from opentelemetry import metrics

    from mlaudit._version import __version__

    meter = (provider or metrics.get_meter_provider()).get_meter("mlaudit", __version__)
    make = {
        "counter": meter.create_observable_counter,
        "updowncounter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }
    for name, instrument, unit, description in INSTRUMENTS:
        make[instrument](name, [_callback(name, running, metrics.Observation)], unit, description)
    name, unit, description = DURATION
    _histograms.append(
        meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=_BUCKETS)
    )


def observe_export(seconds: float, error_type: str) -> None:
    """Measures one request of a sender, in its thread: its duration, and the type of error ("" for none)."""
    for histogram in tuple(_histograms):
        histogram.record(seconds, {"error.type": error_type} if error_type else {})


def measure(name: str, pipeline: Pipeline) -> list[Measured]:
    """The current values of one instrument, each with its attributes."""
    return list(_MEASURES[name](pipeline))


def _callback(
    name: str, running: Callable[[], Pipeline | None], observation: Callable[..., Any]
) -> Callable[[Any], Iterable[Any]]:
    def observe(_options: Any) -> list[Any]:
        pipeline = running()
        return [] if pipeline is None else [observation(*pair) for pair in measure(name, pipeline)]

    return observe


def _emitted(pipeline: Pipeline) -> Iterator[Measured]:
    return _both(pipeline, lambda totals: totals.sealed)


def _exported(pipeline: Pipeline) -> Iterator[Measured]:
    return _both(pipeline, lambda totals: totals.acknowledged)


def _quarantined(pipeline: Pipeline) -> Iterator[Measured]:
    return _both(pipeline, lambda totals: totals.quarantined)


def _depth(pipeline: Pipeline) -> Iterator[Measured]:
    return _both(pipeline, lambda totals: totals.waiting)


def _size(pipeline: Pipeline) -> Iterator[Measured]:
    return _both(pipeline, lambda totals: totals.waiting_bytes)


def _age(pipeline: Pipeline) -> Iterator[Measured]:
    now = time.time_ns()
    return _both(pipeline, lambda totals: max(0, now - totals.oldest) / 1e9 if totals.oldest else 0.0)


def _both(pipeline: Pipeline, value: Callable[[Totals], float]) -> Iterator[Measured]:
    """One value for the streams of this process, one for those it adopted from dead ones."""
    if (tally := pipeline.tally) is not None:
        for adopted in (False, True):
            yield value(tally.totals(adopted=adopted)), {ADOPTED: adopted}


def _dropped(pipeline: Pipeline) -> Iterator[Measured]:
    # Zero from the start, so that an alert on growth includes the first one.
    by_type: Counter[str] = Counter({"SpoolFullError": 0, "SpoolUnavailableError": 0})
    for lost, count in pipeline.counts.lost.copy().items():
        by_type[lost.rpartition(": ")[2]] += count
    for error_type, count in by_type.items():
        yield count, {DROP_REASON: _REASONS.get(error_type, "fault"), "error.type": error_type}


def _retained(pipeline: Pipeline) -> Iterator[Measured]:
    from mlaudit.deliver.spool.backlog import folder_bytes
    from mlaudit.deliver.spool.layout import retained_folder

    if (tally := pipeline.tally) is not None:
        yield folder_bytes(retained_folder(tally.spool_dir)), {}


def _limit(pipeline: Pipeline) -> Iterator[Measured]:
    yield pipeline.settings.spool_max_bytes, {}


def _failing(pipeline: Pipeline) -> Iterator[Measured]:
    if (tally := pipeline.tally) is not None:
        since = tally.failing_since()
        yield max(0.0, time.time() - since) if since else 0.0, {}


def _count(name: str) -> Callable[[Pipeline], Iterator[Measured]]:
    def read(pipeline: Pipeline) -> Iterator[Measured]:
        yield getattr(pipeline.counts, name), {}

    return read


_MEASURES: Final[dict[str, Callable[[Pipeline], Iterator[Measured]]]] = {
    "audit.records.emitted": _emitted,
    "audit.records.exported": _exported,
    "audit.records.dropped": _dropped,
    "audit.records.refused": _count("refused"),
    "audit.records.suppressed": _count("suppressed"),
    "audit.records.set_aside": _quarantined,
    "audit.capture.faults": _count("faults"),
    "audit.queue.depth": _depth,
    "audit.spool.size": _size,
    "audit.spool.limit": _limit,
    "audit.spool.retained.size": _retained,
    "audit.spool.oldest.age": _age,
    "audit.export.failing.duration": _failing,
}
