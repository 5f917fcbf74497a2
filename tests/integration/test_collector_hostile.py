"""The collector's protection against hostile and broken producers."""

from __future__ import annotations

import json

import pytest

from mlaudit.event import new_record_id
from mlaudit.verify.proof.stored import document_id

pytestmark = pytest.mark.stack

STEERING = {
    "elastic.mapping.mode": "otel",
    "elasticsearch.index": "evil",
    "elasticsearch.document_id": "evil",
    "elasticsearch.document_pipeline": "evil",
    "data_stream.type": "metrics",
    "data_stream.dataset": "evil",
    "data_stream.namespace": "evil",
}


def test_producer_cannot_steer_where_and_how_its_record_is_stored(sender, elasticsearch):
    """Attributes at resource, scope and record that steer the exporter have no effect."""
    original = sender.original()
    status = sender.send(
        sender.record(original, STEERING),
        scope_attributes=STEERING | {"elastic.mapping.mode": "bogus"},
        resource=STEERING | {"elastic.mapping.mode": "raw"},
        headers={"X-Elastic-Mapping-Mode": "otel"},
    )
    assert status == 200
    (hit,) = sender.find(1)
    assert ".ds-logs-mlaudit.prediction-default-" in hit["_index"]
    assert hit["_id"] == document_id(hit["_source"]["audit.record.id"], hit["_source"]["event.hash"])
    assert hit["_source"]["event.original"] == original
    indices = elasticsearch.cat.indices(format="json", expand_wildcards="all", h="index")
    assert not [row for row in indices if "evil" in row["index"]]


@pytest.mark.parametrize("mode", ["bogus", "otel", "raw"])
def test_one_producers_bad_mode_does_not_harm_anothers_records(sender, mode):
    """Records of two producers in one batch: a bad mapping mode of the first leaves the second whole."""
    bad, good = sender.original(message="bad"), sender.original(message="good")
    message = {
        "resourceLogs": [
            {
                "scopeLogs": [
                    {
                        "scope": {
                            "name": "mlaudit",
                            "attributes": [{"key": "elastic.mapping.mode", "value": {"stringValue": mode}}],
                        },
                        "logRecords": [sender.record(bad)],
                    }
                ]
            },
            {"scopeLogs": [{"scope": {"name": "mlaudit"}, "logRecords": [sender.record(good)]}]},
        ]
    }
    assert sender.post("/v1/logs", message, headers={"X-Elastic-Mapping-Mode": mode}) == 200
    assert {hit["_source"]["message"] for hit in sender.find(2)} == {"bad", "good"}


def test_producer_cannot_forge_what_only_the_collector_says(sender):
    """The collector's own fields in a body are overwritten or removed, in every notation."""
    original = sender.original(
        **{
            "event.hash": "forged",
            "event.ingested": "1999-01-01T00:00:00Z",
            "event.original": "forged",
            "event.sequence": 7,
            "event": {"hash": "forged"},
            "mlaudit.sender.id": "forged",
            "mlaudit.unparsed": True,
            "mlaudit": {"sender": {"id": "forged"}},
            "data_stream.namespace": "forged",
            "data_stream": {"dataset": "forged"},
        }
    )
    assert sender.send(sender.record(original)) == 200
    (hit,) = sender.find(1)
    document = hit["_source"]
    assert document.pop("event.original") == original
    assert "forged" not in json.dumps(document)
    assert "event.sequence" not in document
    assert "mlaudit.unparsed" not in document
    assert document["event.ingested"] > "2026"


def _deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


HARD = {
    "no timestamp": {"@timestamp": None},
    "timestamp that is no date": {"@timestamp": "2026-13-45T99:99:99.1Z"},
    "timestamp beyond date_nanos": {"@timestamp": "2300-01-01T00:00:00.000000000Z"},
    "timestamp object": {"@timestamp": {"a": 1}},
    "timestamp list": {"@timestamp": ["2026-11-25T03:30:00.1Z", "2026-11-25T03:30:00.2Z"]},
    "id that is no id": {"audit.record.id": "x" * 600},
    "id that is a number": {"audit.record.id": 5},
    "names of metadata fields": {"_id": "1", "_index": "x", "_routing": "x", "_ignored": 1},
    "names that are no names": {"": 1, " ": 1, "a..b": 1, ".a": 1, "a.": 1, "a. .b": 1, "...": 1},
    "metadata names inside": {"zz": {"_id": 1, "": 2, "a..b": 3}},
    "object for a scalar": {"source.ip": {"a": 1}, "user.id": {"a": {"b": 1}}, "event.outcome": {"a": 1}},
    "text for an address": {"source.ip": "not an address", "http.response.status_code": "abc"},
    "scalar for a flattened field": {"labels": "text"},
    "deep flattened field": {"labels": json.loads(_deep(60))},
    "nested 240 levels": {"zz": json.loads(_deep(240))},
    "very long values": {"user.id": "x" * 100_000, "labels": {"a": "x" * 50_000}},
    "very long name": {"n" * 40_000: 1},
    "3000 unknown fields": {f"f{number}": number for number in range(3000)},
    "huge numbers": {"a": 10**40, "b": 1e308, "audit.sequence.number": 2**60},
    "sequence that is no number": {"audit.sequence.number": "seven"},
    "nearly the largest": {"message": "y" * 1_900_000, "zz": "z" * 1_900_000},
}


@pytest.mark.parametrize("case", HARD, ids=list(HARD))
def test_record_that_elasticsearch_would_refuse_is_stored_all_the_same(sender, case):
    """No acknowledged body is lost, however malformed it is."""
    body = json.loads(sender.original(unique=new_record_id()))
    body |= HARD[case]
    original = json.dumps({name: value for name, value in body.items() if value is not None})
    assert sender.send(sender.record(original)) == 200
    assert sender.find_original(original)["_source"]["event.original"] == original


def test_record_that_nests_too_deeply_for_elasticsearch_is_kept_whole(sender):
    """990 levels would crash the Elasticsearch process; the record is stored unparsed instead."""
    original = '{"id":"' + new_record_id() + '","zz":' + _deep(990) + "}"
    assert sender.send(sender.record(original)) == 200
    assert sender.find_original(original)["_source"]["mlaudit.unparsed"] is True


def test_many_brackets_in_contents_are_not_deep(sender):
    """A prediction on 5,000 rows has 5,000 brackets in its content and is still projected."""
    original = sender.original(ml__prediction__input=[{"a": row} for row in range(5000)])
    assert sender.send(sender.record(original)) == 200
    (hit,) = sender.find(1)
    assert "mlaudit.unparsed" not in hit["_source"]


def test_wrong_timestamp_is_replaced_and_flagged(sender):
    """A record without a usable time is stored with the time of its arrival, and says so."""
    assert sender.send(sender.record(sender.original(**{"@timestamp": "yesterday"}))) == 200
    (hit,) = sender.find(1)
    assert hit["_source"]["mlaudit.retimed"] is True
    assert hit["_source"]["@timestamp"] == hit["_source"]["event.ingested"]


def test_request_larger_than_elasticsearch_could_ever_take_is_refused(sender):
    """Such a request would be retried forever; the sender gets an error at once instead."""
    assert sender.send(sender.record(sender.original(message="x" * 4_200_000))) == 400


def test_record_under_a_guessed_id_takes_nobodys_place(sender):
    """A foreign record that was sent first under the same id does not keep the genuine record out."""
    record_id = new_record_id()
    forged = sender.original(audit__record__id=record_id, message="forged")
    genuine = sender.original(audit__record__id=record_id, message="genuine")
    assert sender.send(sender.record(forged)) == 200
    sender.find(1)
    assert sender.send(sender.record(genuine)) == 200
    assert {hit["_source"]["message"] for hit in sender.find(2)} == {"forged", "genuine"}
