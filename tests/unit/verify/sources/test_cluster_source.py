from __future__ import annotations

import socket
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson
import pytest
from tests.sealed import KEYS, altered, document, hit, make_stream

from mlaudit.errors import SourceError
from mlaudit.verify.sources.cluster_source import ElasticsearchSource, read_hit
from mlaudit.verify.verification import verify_source

STORED = make_stream(3)[1]


def test_faithful_document_is_plain() -> None:
    """A document as the collector stores it needs no full check."""
    assert read_hit(hit(STORED)).plain


@pytest.mark.parametrize("name", ["event.original", "event.hash", "event.sequence"])
@pytest.mark.parametrize("value", [None, 5.5, True, ["x"], {}, "\ud800"])
def test_odd_values_are_never_plain(name: str, value: Any) -> None:
    """A document whose own fields were replaced is fully checked, without an error."""
    found = hit(STORED)
    found["_source"][name] = value

    record = read_hit(found)

    assert not record.plain
    assert record.sequence == 2


@pytest.mark.parametrize("name", ["event.original", "event.hash", "event.sequence", "audit.sequence.number"])
def test_absent_values_are_never_plain(name: str) -> None:
    """A document without one of its own fields is fully checked."""
    found = hit(STORED)
    del found["_source"][name]

    assert not read_hit(found).plain


def test_collector_id_of_a_record_with_an_odd_id() -> None:
    """If the collector does not accept a record's own id, the document is stored under its hash."""
    odd = document(altered(STORED.original, "audit.record.id", "odd"))

    assert read_hit(hit(replace(odd, id=sha256(odd.original).hexdigest()))).plain
    assert not read_hit(hit(replace(odd, id="something else"))).plain


def test_document_that_the_collector_could_not_parse() -> None:
    """A body that is not a JSON object has no place in any stream."""
    unparsed = {
        "event.original": "hello",
        "event.hash": sha256(b"hello").hexdigest(),
        "mlaudit.unparsed": True,
    }

    record = read_hit({"_id": "x", "_index": "i", "_source": unparsed})

    assert (record.stream_id, record.sequence, record.fault) == ("", 0, "not a JSON object")


def test_number_beyond_doubles_stays_text() -> None:
    """Large integers are text in both, so they compare exactly."""
    big = altered(STORED.original, "ml.dataset.digest", str(2**63))

    assert orjson.loads(big)["ml.dataset.digest"] == "9223372036854775808"
    assert read_hit(hit(document(big))).differences == []


def test_absent_cluster_cannot_be_looked_at() -> None:
    """An unreachable cluster is an error that names the address."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(SourceError, match="cannot reach Elasticsearch"):
            verify_source(ElasticsearchSource(url), KEYS)


def test_address_must_be_one() -> None:
    """A wrong address is refused before anything is sent."""
    with pytest.raises(SourceError, match="expected an address"):
        ElasticsearchSource("localhost:9200")
