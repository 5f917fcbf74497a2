"""Direct topology: an acknowledgement means stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import urllib3
from tests.integration.beside import Beside, collector_beside

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def direct(stack) -> Iterator[Beside]:
    """A collector with direct.yaml."""
    with collector_beside(stack, direct=True) as beside:
        yield beside


def test_acknowledged_is_stored(direct: Beside, sender, elasticsearch) -> None:
    """When the acknowledgement arrives, Elasticsearch has the record."""
    own = replace(sender, stack=direct)
    for number in range(1, 11):
        assert own.send(own.record(own.original(number=number))) == 200
        elasticsearch.indices.refresh(index="logs-mlaudit.*")
        found = elasticsearch.count(index="logs-mlaudit.*", query={"term": {"service.name": own.service}})
        assert found["count"] == number


def test_nothing_is_kept_on_the_collectors_disk(direct: Beside, sender) -> None:
    """There is no queue's file."""
    own = replace(sender, stack=direct)
    assert own.send(own.record(own.original())) == 200
    assert not list((direct.collector.layout.collector / "queue").iterdir())


def test_senders_share_a_request_and_each_gets_its_answer(direct: Beside, sender) -> None:
    """Several senders at once are all acknowledged, each for records that are stored."""
    own = replace(sender, stack=direct)
    originals = [own.original(number=number) for number in range(40)]
    statuses: list[int] = []

    def send(part: list[str]) -> None:
        lane = replace(own, pool=urllib3.PoolManager(retries=False, timeout=30))
        statuses.extend(lane.send(lane.record(original)) for original in part)

    threads = [threading.Thread(target=send, args=(originals[lane::4],)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40
    assert sorted(hit["_source"]["event.original"] for hit in own.find(40)) == sorted(originals)


def test_no_acknowledgement_while_elasticsearch_is_away(direct: Beside, sender, stack) -> None:
    """Without Elasticsearch a sender gets no 200; a record sent again afterwards is stored once."""
    own = replace(sender, stack=direct, pool=urllib3.PoolManager(retries=False, timeout=3))
    original = own.original()
    stack.kill_elasticsearch()
    try:
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            own.send(own.record(original))
    finally:
        stack.restart_elasticsearch()
    patient = replace(sender, stack=direct)
    assert patient.send(patient.record(original)) == 200
    assert own.find_original(original)
