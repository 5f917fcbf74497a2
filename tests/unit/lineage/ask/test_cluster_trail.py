from __future__ import annotations

import socket
from typing import Any

import pytest
from tests.sealed import altered, document, hit, make_stream

from mlaudit.errors import SourceError
from mlaudit.lineage.ask.cluster_trail import ElasticsearchTrail, query_of, read_record
from mlaudit.lineage.ask.trail import Ask, Match

STORED = make_stream(3)[1]


def test_question_in_the_words_of_elasticsearch() -> None:
    """Kinds and bounds are required, and any one match suffices."""
    match = Match((("a", ("1", "2")),), absent=("b",), below=("n", 7))
    ask = Ask(("k",), (match,), since="2026", until="2027")

    assert query_of(ask) == {
        "bool": {
            "filter": [
                {"terms": {"audit.kind": ["k"]}},
                {
                    "bool": {
                        "should": [
                            {
                                "bool": {
                                    "filter": [{"terms": {"a": ["1", "2"]}}, {"range": {"n": {"lt": 7}}}],
                                    "must_not": [{"exists": {"field": "b"}}],
                                }
                            }
                        ],
                        "minimum_should_match": 1,
                    }
                },
                {"range": {"@timestamp": {"gte": "2026", "lt": "2027"}}},
            ]
        }
    }


def test_original_is_what_is_read() -> None:
    """Numbers come from the original, not from the stored doubles, and a faithful document has no fault."""
    found = read_record(hit(STORED))

    assert (found.fault, found.sealed, found.sequence) == ("", True, 2)
    assert found.number("ml.prediction.rows") == 2
    assert found.text("ml.model.name") == "fraud"


def test_changed_searchable_field_is_a_fault() -> None:
    """The original's value is shown, and the differing searchable value is reported."""
    stored = hit(STORED)
    stored["_source"]["ml.model.name"] = "other"

    found = read_record(stored)

    assert found.text("ml.model.name") == "fraud"
    assert found.fault == "ml.model.name is searchable as other, sealed as fraud"


def test_changed_original_is_a_fault() -> None:
    """An original that does not match its hash is reported as a fault."""
    stored = hit(STORED)
    stored["_source"]["event.original"] = altered(STORED.original, "ml.model.name", "other").decode()

    assert read_record(stored).fault.startswith("its hash is not that of its original")


@pytest.mark.parametrize("original", ["", "[1]", "{", None, 7, "\ud800"])
def test_document_without_an_original(original: Any) -> None:
    """A document whose original cannot be read is unsealed and faulty, without an error."""
    stored = hit(STORED)
    stored["_source"]["event.original"] = original

    found = read_record(stored)

    assert not found.sealed
    assert found.fault.startswith("its original is ")


def test_what_the_collector_saw_itself_is_unsealed() -> None:
    """A document marked as unsealed has no faults, since it has no seal to contradict."""
    source = {"mlaudit.unsealed": True, "audit.kind": "audit.host.failure", "@timestamp": "2026"}

    found = read_record({"_id": "x", "_index": "i", "_source": source})

    assert (found.id, found.kind, found.sealed, found.fault) == ("x", "audit.host.failure", False, "")


def test_marked_record_is_never_taken_for_sealed() -> None:
    """A record that names a stream and is marked as unsealed counts as unsealed."""
    marked = document(STORED.original)
    marked.source["mlaudit.unsealed"] = True

    assert not read_record(hit(marked)).sealed


def test_absent_cluster_cannot_be_looked_at() -> None:
    """An unreachable cluster is an error that names the address."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(SourceError, match="cannot reach Elasticsearch"), ElasticsearchTrail(url):
            pytest.fail("nobody listens there")
