"""A real trail: audited processes, the real collector, Elasticsearch, its archive, and what the spool retained."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from elasticsearch import Elasticsearch
from tests.tamper.stores import INDEX, data_stream

from mlaudit.deliver.spool import layout
from mlaudit.seal.checkpoint import VerifyingKey
from mlaudit.seal.keys import FileSigner, load_signing_key, load_verifier_keys
from mlaudit.stack import Stack
from mlaudit.verify.sources.cluster_source import ElasticsearchSource

_WAIT = 60


@dataclass
class Trail:
    """The stores of a trail. ``streams`` are its streams; other tests may have written others to the same stack."""

    stack: Stack
    client: Elasticsearch
    spool: Path
    archive: Path
    signer: FileSigner
    keys: dict[str, VerifyingKey]
    streams: list[str]
    records: int

    def source(self) -> ElasticsearchSource:
        """Elasticsearch with a reader's rights."""
        stack = self.stack
        return ElasticsearchSource(stack.elasticsearch_url, stack.reader_auth, ca_file=stack.ca_file)


def make_trail(stack: Stack, client: Elasticsearch, folder: Path, count: int) -> Trail:
    """Writes seven streams of two services and returns once all records are in every store.

    ``scoring``: one that ends, one that is killed, one that adopts it, forks a child and ends, one that stays open,
    each linked to the one before. ``training``: one that ends, a rollover of every data stream, one that ends.
    """
    state = folder / "state"
    scoring, training = f"scoring-{os.getpid()}", f"training-{os.getpid()}"
    _write(stack, state, scoring, count, "end")
    _write(stack, state, scoring, count, "kill")
    _write(stack, state, scoring, count, "fork")
    _write(stack, state, training, count, "end")
    _roll_over(client)
    _write(stack, state, training, count, "end")
    opened = _write(stack, state, scoring, count, "open")
    try:
        return _collect(stack, client, folder, state, (scoring, training))
    finally:
        # This stream stays open, and nothing more is written to it.
        opened.send_signal(signal.SIGKILL)
        opened.wait()


def environment(stack: Stack, state: Path, service: str) -> dict[str, str]:
    """The environment of an audited process that signs only on request."""
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("MLAUDIT_", "OTEL_"))}
    return {
        **inherited,
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_STATE_DIR": str(state),
        "MLAUDIT_ENDPOINT": stack.otlp_endpoint,
        "MLAUDIT_TOKEN_FILE": str(stack.token_file),
        "MLAUDIT_SERVICE_NAME": service,
        "MLAUDIT_CHECKPOINT_RECORDS": "100000",
        "MLAUDIT_CHECKPOINT_SECONDS": "86400",
        "MLAUDIT_SHUTDOWN_SECONDS": "60",
    }


def _write(stack: Stack, state: Path, service: str, count: int, end: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.tamper.writer", str(count), end],
        env=environment(stack, state, service),
        stdout=subprocess.PIPE,
        text=True,
    )
    if end == "open":
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        return process
    expected = -signal.SIGKILL if end == "kill" else 0
    assert process.wait(120) == expected, f"the writer that should {end} came back with {process.returncode}"
    return process


def _roll_over(client: Elasticsearch) -> None:
    """Starts a new backing index in every data stream, so that a repeated send would be stored again."""
    for stream in {data_stream(index) for index in client.indices.get(index=INDEX)}:
        client.indices.rollover(alias=stream)


def _collect(
    stack: Stack, client: Elasticsearch, folder: Path, state: Path, services: tuple[str, str]
) -> Trail:
    spool = state / "spool"
    signer = load_signing_key(state / "keys" / "signing.key")

    def arrived() -> Mapping[str, int]:
        client.indices.refresh(index=INDEX)
        answer = client.search(
            index=INDEX,
            size=0,
            query={"terms": {"service.name": list(services)}},
            aggregations={
                "streams": {
                    "terms": {"field": "audit.sequence.stream_id", "size": 100},
                    "aggregations": {"last": {"max": {"field": "audit.sequence.number"}}},
                }
            },
        )
        buckets = answer["aggregations"]["streams"]["buckets"]
        return {b["key"]: b["doc_count"] for b in buckets if b["doc_count"] == int(b["last"]["value"])}

    copied = _copy_spool(spool, folder / "spool")
    expected = {folder.name: _last(folder) for folder in copied.iterdir()}
    _until(lambda: arrived() == expected, lambda: f"{expected} to arrive, found {arrived()}")
    assert stack.archive is not None
    archive = folder / "archive.jsonl"
    _until(
        lambda: all(stack.archive.read_bytes().count(stream.encode()) >= 1 for stream in expected),
        lambda: "the archive to hold every stream",
    )
    time.sleep(1)  # the collector writes the file shortly after its response
    shutil.copy(stack.archive, archive)
    keys = load_verifier_keys(state / "keys")
    return Trail(stack, client, copied, archive, signer, keys, sorted(expected), sum(expected.values()))


def _copy_spool(spool: Path, target: Path) -> Path:
    """The delivered segments that are retained, and those of the open stream."""
    target.mkdir(parents=True)
    _until(
        lambda: len(layout.streams(spool)) == 1,
        lambda: f"one stream left in the spool, found {[path.name for path in layout.streams(spool)]}",
    )
    for folder in [*layout.retained_streams(spool), *layout.streams(spool)]:
        copied = target / folder.name
        copied.mkdir(exist_ok=True)
        for segment in layout.segments(folder):
            shutil.copy(segment, copied)
    return target


def _last(folder: Path) -> int:
    from mlaudit.deliver.spool import files

    return max(files.read_frames(segment)[0][-1].sequence for segment in layout.segments(folder))


def _until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + _WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"expected {what()} within {_WAIT} s")
        time.sleep(0.2)
