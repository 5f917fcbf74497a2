"""The path of an audit record from the service to Elasticsearch."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from mlaudit.event import new_record_id
from mlaudit.verify.proof.stored import document_id

pytestmark = pytest.mark.stack

AWKWARD = (
    'quote " backslash \\ U+2028 \u2028 U+2029 \u2029 emoji \U0001f600 accents é\u0301 null \\u0000 tab \\t'
)


def test_original_is_kept_byte_for_byte_with_a_hash_made_by_the_collector(sender):
    """The stored original equals the sent body in every byte, and event.hash is its SHA-256."""
    original = sender.original(message=AWKWARD, big="9007199254740993", event__category=["b", "a", "b"])
    assert sender.send(sender.record(original)) == 200
    (hit,) = sender.find(1)
    document = hit["_source"]
    assert document["event.original"].encode() == original.encode()
    assert document["event.hash"] == hashlib.sha256(original.encode()).hexdigest()
    assert document["message"] == AWKWARD
    assert document["big"] == "9007199254740993"
    assert document["event.category"] == ["b", "a", "b"]


def test_record_is_filed_by_class_under_its_own_id(sender):
    """Each class of the closed list has its data stream; the document id is made of record id and content."""
    classes = ("prediction", "training", "change", "access", "system", "integrity")
    originals = [sender.original(event__dataset=f"mlaudit.{name}") for name in classes]
    assert sender.send(*(sender.record(original) for original in originals)) == 200
    hits = sender.find(len(classes))
    filed = {hit["_source"]["event.dataset"]: hit["_index"] for hit in hits}
    assert all(f".ds-logs-mlaudit.{name}-default-" in filed[f"mlaudit.{name}"] for name in classes)
    assert all(
        hit["_id"] == document_id(hit["_source"]["audit.record.id"], hit["_source"]["event.hash"])
        for hit in hits
    )
    assert all("mlaudit.unclassified" not in hit["_source"] for hit in hits)


def test_record_of_unknown_class_goes_to_system_and_says_so(sender):
    """A class that is not in the closed list cannot create a data stream."""
    assert sender.send(sender.record(sender.original(event__dataset="mlaudit.evil"))) == 200
    (hit,) = sender.find(1)
    assert ".ds-logs-mlaudit.system-default-" in hit["_index"]
    assert hit["_source"]["mlaudit.unclassified"] is True


def test_collector_says_when_it_took_the_record_and_from_whom(sender, stack):
    """event.ingested, event.sequence and the sender's address and credential are added."""
    original = sender.original(audit__sequence__number=41)
    assert sender.send(sender.record(original)) == 200
    (hit,) = sender.find(1)
    document = hit["_source"]
    assert document["event.sequence"] == 41
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.]\d{1,9}Z", document["event.ingested"])
    assert document["mlaudit.sender.address"] == "127.0.0.1"
    assert document["mlaudit.sender.credential"] == hashlib.sha256(stack.token.encode()).hexdigest()[:16]


def test_repeated_send_gives_one_document(sender):
    """The same record sent three times is stored once."""
    original = sender.original(message="first")
    for _ in range(3):
        assert sender.send(sender.record(original)) == 200
    other = sender.original(message="marker")
    assert sender.send(sender.record(original), sender.record(other)) == 200
    hits = sender.find(2)
    assert sorted(hit["_source"]["message"] for hit in hits) == ["first", "marker"]


@pytest.mark.parametrize("token", ["wrong", None], ids=["wrong token", "no token"])
def test_unauthenticated_sender_is_refused(sender, token):
    """Without the token the answer is 401, for records and for traces."""
    assert sender.send(sender.record(sender.original()), token=token) == 401
    assert sender.post("/v1/traces", {"resourceSpans": []}, token=token) == 401


def test_contents_are_in_the_original_alone(sender):
    """Fields that the catalog keeps in the original only are not searchable."""
    original = sender.original(ml__prediction__input=[{"age": 41}], ml__prediction__output=[0.5])
    assert sender.send(sender.record(original)) == 200
    (hit,) = sender.find(1)
    assert "ml.prediction.input" not in hit["_source"]
    assert "ml.prediction.output" not in hit["_source"]
    assert hit["_source"]["event.original"] == original


@pytest.mark.parametrize(
    "body",
    [
        "not json {id}",
        '{{"broken": "{id}"',
        '["a list", "{id}"]',
        '{{"a": 1}} trailing {id}',
        "   ",
    ],
)
def test_body_that_is_no_object_is_kept_whole_and_flagged(sender, body):
    """A body that cannot be parsed is stored in the integrity class, with its original."""
    original = body.format(id=new_record_id())
    assert sender.send(sender.record(original)) == 200
    hit = sender.find_original(original)
    assert ".ds-logs-mlaudit.integrity-default-" in hit["_index"]
    assert hit["_source"]["mlaudit.unparsed"] is True
    assert hit["_source"]["event.hash"] == hashlib.sha256(original.encode()).hexdigest()
    assert hit["_source"]["audit.kind"] == "audit.ml.prediction"


def test_body_that_is_no_string_is_kept_as_json_and_flagged(sender):
    """A structured body has no original bytes; its JSON text is kept."""
    identity = new_record_id()
    body = {"kvlistValue": {"values": [{"key": "id", "value": {"stringValue": identity}}]}}
    assert sender.send(sender.record(body)) == 200
    hit = sender.find_original(json.dumps({"id": identity}, separators=(",", ":")))
    assert hit["_source"]["mlaudit.unparsed"] is True


def test_archive_has_the_records_as_they_came(sender, stack):
    """The optional file contains every audit record with its body unchanged."""
    original = sender.original(message=AWKWARD)
    assert sender.send(sender.record(original)) == 200
    sender.find(1)
    assert stack.archive is not None

    def bodies() -> list[str]:
        # Not splitlines(): U+2028 within a record is no end of line. Other tests kill the collector, which
        # leaves a line half written.
        lines = [line for line in stack.archive.read_text().split("\n") if sender.service in line]
        return [
            record["body"]["stringValue"]
            for line in lines[:1]
            for resource in json.loads(line)["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]

    sender.wait_for(lambda: original in bodies(), "the record in the archive")
