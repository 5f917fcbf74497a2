"""Each bad answer of the fault matrix once, in front of the real collector."""

from __future__ import annotations

import json
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from tests.fault.matrix.bad_answers import BAD
from tests.fault.matrix.proxy import Exchange, Proxy, forward

from mlaudit.deliver.send import transport
from mlaudit.deliver.send.otlp import Envelope, log_record
from mlaudit.deliver.send.sender import Sender
from mlaudit.deliver.send.transport import HttpTransport, Receiver
from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.event import new_record_id
from mlaudit.stack import Stack

COUNT = 30


def _put(spool: StreamSpool, service: str) -> set[str]:
    """Appends records of a service; their ids."""
    ids = set()
    for _ in range(COUNT):
        record_id = new_record_id()
        text = json.dumps(
            {
                "@timestamp": "2026-11-25T03:30:00.123456789Z",
                "audit.record.id": record_id,
                "event.dataset": "mlaudit.prediction",
                "service.name": service,
            },
            sort_keys=True,
        )
        payload = log_record(
            time=time.time_ns(),
            severity=9,
            event_name="audit.ml.prediction",
            body=text.encode(),
            attributes=b"",
        )
        spool.append(spool.last_sequence + 1, sha256(text.encode()).digest(), payload, durable=True).wait(10)
        ids.add(record_id)
    return ids


def test_every_bad_answer_loses_and_repeats_nothing(
    stack: Stack, elasticsearch: Elasticsearch, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are stored exactly once, whatever is answered to the first request that carries them."""
    monkeypatch.setattr(transport, "_ANSWER_SECONDS", 0.5)
    spool = StreamSpool.create(tmp_path / "spool", "s", 1 << 30)
    waiting = [""]

    def script(exchange: Exchange) -> None:
        name, waiting[0] = waiting[0], ""
        (BAD[name].act if name else forward)(exchange)

    wanted: set[str] = set()
    with Proxy(stack.otlp_endpoint, script) as proxy:
        sending = Sender(
            spool,
            HttpTransport(Receiver(f"{proxy.endpoint}/v1/logs", token_file=stack.token_file)),
            Envelope({"service.name": service}, "mlaudit", "0"),
        )
        for name in BAD:
            wanted |= _put(spool, service)
            waiting[0] = name
            assert sending.drain(), name
            assert not waiting[0], name
    spool.close(remove=False)
    assert not layout.quarantine_folder(spool.folder).exists()
    found = Counter[str]()
    deadline = time.monotonic() + 30
    while wanted - found.keys() and time.monotonic() < deadline:
        elasticsearch.indices.refresh(index="logs-mlaudit.*", ignore_unavailable=True)
        query = {"term": {"service.name": service}}
        hits = elasticsearch.search(index="logs-mlaudit.*", query=query, size=10_000)["hits"]["hits"]
        found = Counter(hit["_source"]["audit.record.id"] for hit in hits)
    assert found == dict.fromkeys(wanted, 1)
