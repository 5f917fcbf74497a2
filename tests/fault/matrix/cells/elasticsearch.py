"""Elasticsearch that is away, full, or has too much to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.stored import INDEX

AWAY_SECONDS = 25.0
_WATERMARKS = ("low", "high", "flood_stage", "flood_stage.frozen")


def killed(ground: Ground) -> Outcome:
    """SIGKILL, 25 s without, and a start, all under load."""
    process = ground.workload("--durable-every", 20, "--rate", 1000, "--count", ground.scaled(40_000))
    ground.notebook.wait_for(ground.scaled(4_000))
    began = time.monotonic()
    ground.stack.kill_elasticsearch()
    time.sleep(AWAY_SECONDS)
    ground.stack.restart_elasticsearch()
    away = time.monotonic() - began
    ground.notebook.wait_for(ground.scaled(20_000))
    code = process.terminate()
    ground.drain()
    return ground.judge(away_seconds=round(away, 1), exit_code=code)


def killed_with_collector(ground: Ground) -> Outcome:
    """Elasticsearch is killed; the collector is killed twice meanwhile, and once more while records flow again."""
    stack = ground.stack
    process = ground.workload("--durable-every", 20, "--rate", 2500, "--count", ground.scaled(120_000))
    ground.notebook.wait_for(ground.scaled(20_000))
    stack.kill_elasticsearch()
    began = time.monotonic()
    for moment in (5.0, 15.0):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        stack.kill_collector()
        time.sleep(2)
        stack.restart_collector()
    time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
    stack.restart_elasticsearch()
    away = time.monotonic() - began
    time.sleep(1)
    stack.kill_collector()
    time.sleep(2)
    stack.restart_collector()
    ground.notebook.wait_for(ground.scaled(100_000))
    code = process.terminate()
    drained = ground.drain(300)
    return ground.judge(
        away_seconds=round(away, 1), exit_code=code, drain_seconds=round(drained, 1), seconds=400
    )


def flooded(ground: Ground) -> Outcome:
    """The disk passes Elasticsearch's flood-stage watermark, which blocks the indices, and comes back below it."""
    client = ground.elasticsearch
    process = ground.workload("--durable-every", 20, "--rate", 1000, "--count", ground.scaled(40_000))
    ground.notebook.wait_for(ground.scaled(5_000))
    began = time.monotonic()
    with _watermarks_passed(ground):
        wait_for(lambda: _blocked(ground) > 0, "the flood-stage block", 90)
        blocked = _blocked(ground)
        time.sleep(5)
        before = ground.count()
        time.sleep(5)
        after = ground.count()
    wait_for(lambda: not _blocked(ground), "the end of the block", 120)
    took = time.monotonic() - began
    ground.notebook.wait_for(ground.scaled(20_000))
    process.terminate()
    ground.drain()
    client.cluster.put_settings(persistent=_settings(None) | {"cluster.info.update.interval": None})
    outcome = ground.judge(blocked_indices=blocked, block_seconds=round(took, 1))
    outcome.require(before == after, f"expected nothing stored while blocked, found {after - before}")
    return outcome


def overloaded(ground: Ground) -> Outcome:
    """A write queue of one, and other clients that keep it full: bulk requests are answered 429."""
    with _tiny_write_queue(ground):
        process = ground.workload("--durable-every", 20, "--rate", 2500, "--count", ground.scaled(20_000))
        with _other_writers(ground):
            ground.notebook.wait_for(ground.scaled(20_000))
            wait_for(lambda: _rejections(ground) > 0, "a rejected write", 60)
            time.sleep(3)
            rejected = _rejections(ground)
        process.finish()
        ground.drain()
        outcome = ground.judge(rejected_writes=rejected)
    outcome.require(rejected > 0, "expected Elasticsearch to reject writes, found none")
    return outcome


def _settings(mark: str | None) -> dict[str, Any]:
    prefix = "cluster.routing.allocation.disk"
    settings: dict[str, Any] = {f"{prefix}.watermark.{name}": mark for name in _WATERMARKS}
    return settings | {f"{prefix}.threshold_enabled": True if mark else None}


@contextmanager
def _watermarks_passed(ground: Ground) -> Iterator[None]:
    """Asks for more free bytes than any disk has; then for almost none."""
    client = ground.elasticsearch
    often = {"cluster.info.update.interval": "10s"}
    client.cluster.put_settings(persistent=_settings("100000gb") | often)
    try:
        yield
    finally:
        client.cluster.put_settings(persistent=_settings("1kb") | often)


def _blocked(ground: Ground) -> int:
    answer = ground.elasticsearch.indices.get_settings(
        index=INDEX, name="index.blocks.read_only_allow_delete", flat_settings=True
    )
    return sum(
        one["settings"].get("index.blocks.read_only_allow_delete") == "true" for one in answer.values()
    )


def _rejections(ground: Ground) -> int:
    answer = ground.elasticsearch.nodes.stats(metric="thread_pool")
    (node,) = answer["nodes"].values()
    return sum(pool["rejected"] for name, pool in node["thread_pool"].items() if name.startswith("write"))


@contextmanager
def _tiny_write_queue(ground: Ground) -> Iterator[None]:
    stack = ground.stack
    path = stack.layout.elasticsearch / "config" / "elasticsearch.yml"
    usual = path.read_text()
    stack.layout.write(path, f"{usual}thread_pool.write.queue_size: 1\nthread_pool.write.size: 1\n")
    try:
        stack.restart_elasticsearch()
        yield
    finally:
        stack.layout.write(path, usual)
        stack.restart_elasticsearch()


@contextmanager
def _other_writers(ground: Ground, count: int = 4) -> Iterator[None]:
    """Bulk requests of somebody else, one after another over several connections."""
    stopping = threading.Event()
    stack = ground.stack
    headers = urllib3.make_headers(basic_auth=":".join(stack.elasticsearch_auth))
    body = ('{"create":{"_index":"other"}}\n{"text":"' + "x" * 500 + '"}\n') * 500

    def write() -> None:
        ca_certs = str(stack.ca_file) if stack.ca_file else None
        with urllib3.PoolManager(ca_certs=ca_certs, retries=False, timeout=60) as pool:
            while not stopping.is_set():
                pool.request(
                    "POST",
                    f"{stack.elasticsearch_url}/_bulk?filter_path=took",
                    body=body.encode(),
                    headers={**headers, "Content-Type": "application/x-ndjson"},
                )

    threads = [threading.Thread(target=write, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)
        ground.elasticsearch.indices.delete(index="other", ignore_unavailable=True)


CELLS = [
    Cell(
        "kill-elasticsearch",
        "Elasticsearch is killed with SIGKILL under load and comes back after 25 s.",
        killed,
        minutes=1.3,
        group="elasticsearch",
    ),
    Cell(
        "kill-elasticsearch-and-collector",
        "Elasticsearch is killed and away for 25 s; the collector is killed three times, before and after it is back.",
        killed_with_collector,
        records=100_000,
        minutes=2.5,
        group="elasticsearch",
    ),
    Cell(
        "flood-stage",
        "Elasticsearch blocks every index at its flood-stage watermark, and releases them below it.",
        flooded,
        minutes=1.5,
        group="elasticsearch",
    ),
    Cell(
        "elasticsearch-429",
        "Elasticsearch has a write queue of one and rejects with 429, whole requests and single documents.",
        overloaded,
        minutes=1.5,
        group="elasticsearch",
    ),
]
