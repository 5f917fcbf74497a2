"""Reads a collector's own metrics (Prometheus text), for the few that show lost or waiting records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

import urllib3

from mlaudit.health.checks import BrokenLinkError

DOCUMENTS: Final = "otelcol_elasticsearch_docs_processed"
QUEUE_SIZE: Final = "otelcol_exporter_queue_size"
QUEUE_CAPACITY: Final = "otelcol_exporter_queue_capacity"
ENQUEUE_FAILED: Final = "otelcol_exporter_enqueue_failed_log_records"
#: The exporter and writer of audit records in collector-config/collector.yaml.
AUDIT_EXPORTER: Final = "elasticsearch/audit"
#: Not lost: retried (collector.yaml, retry_on_status); 409 is a record that was sent twice and is stored.
_NOT_LOST: Final = frozenset({"401", "403", "408", "409", "429"})
_FINAL: Final = frozenset({"failed_client", "failure_store"})  # after the others the exporter tries again
_BYTES: Final = 8 << 20
_LINE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?")
_LABEL: Final = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    """One line of the page; ``name`` without the suffix ``_total``."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """The content of a metrics page at one moment."""

    samples: list[Sample]

    def rejections(self) -> dict[str, float]:
        """Documents that Elasticsearch rejected for good, by outcome and status; includes ordinary telemetry."""
        found: dict[str, float] = {}
        for one in self._of(DOCUMENTS):
            outcome = one.labels.get("outcome", "")
            status = one.labels.get("http_response_status_code", "")
            if one.value and outcome in _FINAL and status not in _NOT_LOST:
                what = f"{outcome} {status}".strip()
                found[what] = found.get(what, 0.0) + one.value
        return found

    def queue(self) -> tuple[float, float] | None:
        """Size and capacity of the audit exporter's queue; None when the page has none."""
        sizes, capacities = self._of(QUEUE_SIZE), self._of(QUEUE_CAPACITY)
        if not sizes or not capacities:
            return None
        return sum(one.value for one in sizes), sum(one.value for one in capacities)

    def enqueue_failures(self) -> float:
        """Records that the queue did not accept."""
        return sum(one.value for one in self._of(ENQUEUE_FAILED))

    def names(self) -> set[str]:
        """Every metric name of the page, without ``_total``."""
        return {one.name for one in self.samples}

    def _of(self, name: str) -> list[Sample]:
        found = [one for one in self.samples if one.name == name]
        audit = [one for one in found if one.labels.get("exporter") == AUDIT_EXPORTER]
        return audit or found  # another collector may name its exporter differently


def parse(text: str) -> Scrape:
    """Parses the Prometheus text format; skips malformed lines."""
    samples = []
    for line in text.splitlines():
        if line.startswith("#") or not (found := _LINE.fullmatch(line.strip())):
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        labels = {
            key: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)
            for key, text in _LABEL.findall(found[2] or "")
        }
        samples.append(Sample(found[1].removesuffix("_total"), labels, value))
    return Scrape(samples)


def fetch(url: str) -> Scrape:
    """Fetches a collector's metrics.

    Raises:
        BrokenLinkError: there is no such page.
    """
    expected, remedy = (
        "the collector's metrics page",
        "correct --collector-metrics (http://127.0.0.1:8888/metrics)",
    )
    pool = urllib3.PoolManager(retries=False, timeout=10.0)
    try:
        response = pool.request("GET", url, preload_content=False, redirect=False)
        try:
            body, status = response.read(_BYTES), response.status
        finally:
            response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise BrokenLinkError(expected, f"no answer ({type(error).__name__})", remedy) from None
    finally:
        pool.clear()
    scrape = parse(body.decode("utf-8", "replace"))
    if status != 200 or not scrape.samples:
        raise BrokenLinkError(expected, f"HTTP {status} with {len(scrape.samples)} metrics", remedy)
    return scrape
