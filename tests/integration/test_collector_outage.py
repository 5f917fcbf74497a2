"""Crashes between acknowledgement and storage lose nothing."""

from __future__ import annotations

import pytest
import urllib3

pytestmark = pytest.mark.stack

COUNT = 60


def test_nothing_acknowledged_is_lost_when_everything_crashes(sender, stack):
    """Elasticsearch, then the collector with a full queue, are killed with SIGKILL: every record arrives."""
    ids = []

    def send(count: int) -> None:
        for _ in range(count):
            original = sender.original()
            assert sender.send(sender.record(original)) == 200
            ids.append(original)

    send(COUNT)
    stack.kill_elasticsearch()
    send(COUNT)
    queued = b"".join(path.read_bytes() for path in (stack.layout.collector / "queue").iterdir())
    stack.kill_collector()
    with pytest.raises(urllib3.exceptions.HTTPError):
        sender.send(sender.record(sender.original()))
    assert stack.archive is not None
    with stack.archive.open("a") as archive:
        archive.write('{"resourceLogs":[{"half')
    stack.restart_collector()
    # What is appended after the crash begins on a line of its own.
    assert '{"resourceLogs":[{"half\n' in stack.archive.read_text()
    send(COUNT)
    stack.restart_elasticsearch()
    # Request headers stay out of the queue's file; without the feature gate they would be in it.
    assert sender.service.encode() in queued
    assert stack.token.encode() not in queued
    hits = sender.find(3 * COUNT)
    assert sorted(hit["_source"]["event.original"] for hit in hits) == sorted(ids)


def test_record_sent_again_after_a_crash_is_stored_once(sender, stack):
    """A sender that never got the response sends again; the document id prevents a duplicate."""
    original = sender.original()
    assert sender.send(sender.record(original)) == 200
    sender.find(1)
    stack.kill_collector()
    stack.restart_collector()
    assert sender.send(sender.record(original), sender.record(marker := sender.original())) == 200
    hits = sender.find(2)
    assert sorted(hit["_source"]["event.original"] for hit in hits) == sorted([original, marker])
