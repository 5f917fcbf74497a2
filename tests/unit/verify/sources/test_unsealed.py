"""Documents that no process sealed are counted, never proven, and cannot hide tampering."""

from __future__ import annotations

import io
from collections.abc import Iterator
from copy import deepcopy
from hashlib import sha256
from typing import Any

import orjson
import pytest
from rich.console import Console
from tests.sealed import KEYS, hit, make_stream

from mlaudit.cli.verify_report import print_report
from mlaudit.errors import SourceError
from mlaudit.verify.proof.stored import StoredRecord
from mlaudit.verify.sources.cluster_source import ElasticsearchSource
from mlaudit.verify.sources.source import Remarks, Selection
from mlaudit.verify.sources.unsealed import examine_unsealed
from mlaudit.verify.verification import verify_source

_ID = "208ce58e-4b7f-8dc4-a704-a21ede3833b0"


def unsealed(**changes: Any) -> dict[str, Any]:
    """The hit of a host's event as the collector stores it."""
    fields = {
        "@timestamp": "2026-11-25T03:30:00.123456Z",
        "audit.kind": "audit.host.hardware.failed",
        "audit.record.id": _ID,
        "event.dataset": "mlaudit.system",
        "host.name": "node-3",
    }
    original = orjson.dumps(fields | changes.pop("original", {})).decode()
    document = {
        **orjson.loads(original),
        "event.original": original,
        "event.hash": sha256(original.encode()).hexdigest(),
        "event.ingested": "2026-11-25T03:30:01.000000001Z",
        "data_stream.type": "logs",
        "data_stream.dataset": "mlaudit.system",
        "data_stream.namespace": "default",
        "mlaudit.unsealed": True,
    } | changes
    return {
        "_index": ".ds-logs-mlaudit.system-default-2026.11.25-000001",
        "_id": _ID,
        "_source": document,
    }


class _Hits(ElasticsearchSource):
    """The hits of a search, without a cluster."""

    live = False

    def __init__(self, hits: list[dict[str, Any]]) -> None:
        super().__init__("http://127.0.0.1:9")
        self._hits = hits

    def read(self, selection: Selection, remarks: Remarks) -> Iterator[StoredRecord]:
        return self._judged(self._hits, remarks)


def test_unsealed_documents_are_counted_apart() -> None:
    """Unsealed documents are neither findings nor proven records; the report states their number, also in the text."""
    report = verify_source(_Hits([*map(hit, make_stream(3)), unsealed()]), KEYS)

    assert (report.ok, report.records, report.unsealed) == (True, 3, 1)
    assert report.to_json()["unsealed"] == 1
    text = io.StringIO()
    print_report(report, Console(file=text, width=300))
    assert "not proven: 1 documents" in text.getvalue()


def test_nothing_but_unsealed_documents_proves_nothing() -> None:
    """Unsealed documents alone give no verdict."""
    with pytest.raises(SourceError, match="found 1 unsealed ones"):
        verify_source(_Hits([unsealed()]), KEYS)


def test_flag_hides_no_altered_record() -> None:
    """A sealed record that was changed and flagged is checked as sealed: both the change and the flag are found."""
    hits = [hit(one) for one in make_stream(3)]
    hits[1]["_source"]["host.name"] = "elsewhere"
    hits[1]["_source"]["mlaudit.unsealed"] = True

    report = verify_source(_Hits(hits), KEYS)

    (found,) = report.findings
    assert (report.unsealed, found.code) == (0, "projection.changed")
    assert {"host.name", "mlaudit.unsealed"} <= set(found.fields)


def test_flag_on_an_untouched_record_is_found() -> None:
    """The flag on an unchanged sealed record is a finding."""
    hits = [hit(one) for one in make_stream(3)]
    hits[2]["_source"]["mlaudit.unsealed"] = True

    (found,) = verify_source(_Hits(hits), KEYS).findings

    assert found.fields == ("mlaudit.unsealed",)


def test_record_turned_into_an_unsealed_one_leaves_its_gap() -> None:
    """A record whose place was removed from original and document, hashed again and flagged, is reported as missing."""
    hits = [hit(one) for one in make_stream(4)]
    hits[1] = unsealed(original={"audit.kind": "audit.host.maintenance"})

    report = verify_source(_Hits(hits), KEYS)

    assert report.unsealed == 1
    assert [found.code for found in report.findings] == ["chain.gap"]
    assert not report.ok


def test_only_the_collectors_kinds_can_be_unsealed() -> None:
    """A prediction without a place is malformed, flagged or not."""
    assert examine_unsealed(unsealed(original={"audit.kind": "audit.ml.prediction"})) is None
    hits = [*map(hit, make_stream(2)), unsealed(original={"audit.kind": "audit.ml.prediction"})]

    assert [found.code for found in verify_source(_Hits(hits), KEYS).findings] == ["original.malformed"]


@pytest.mark.parametrize(
    "value",
    [
        {"mlaudit.unsealed": "true"},
        {"mlaudit.unsealed": 1},
        {"mlaudit.unsealed": False},
        {"audit.sequence.stream_id": "019ab8a0-11aa-7b6c-8d2e-3f4a5b6c7d8e"},
        {"event.sequence": 2},
        {"event.original": "[]"},
        {"event.original": None},
    ],
    ids=lambda value: str(value),
)
def test_anything_odd_must_be_sealed(value: dict[str, Any]) -> None:
    """Only documents in the collector's form count as unsealed."""
    assert examine_unsealed(unsealed(**value)) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"host.name": "elsewhere"}, "projection.changed"),
        ({"event.hash": "0" * 64}, "hash.mismatch"),
        ({"data_stream.namespace": "other"}, "projection.changed"),
    ],
)
def test_contradiction_in_an_unsealed_document_is_found(change: dict[str, Any], code: str) -> None:
    """A careless change of an unsealed document is found."""
    found = deepcopy(unsealed())
    found["_source"] |= change

    assert [one.code for one in examine_unsealed(found) or ()] == [code]


def test_document_under_another_id_is_found() -> None:
    """The document id of an unsealed record is the record's id."""
    found = unsealed() | {"_id": "another"}

    assert [one.code for one in examine_unsealed(found) or ()] == ["document.id"]
