"""Coverage and resend against a real collector and a real Elasticsearch that refuses documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from tests.integration.audited import INDEX, Audited, prediction
from tests.integration.recomputed import recompute

from mlaudit.stack import Stack

pytestmark = pytest.mark.stack


@pytest.fixture
def audited(stack: Stack, elasticsearch: Elasticsearch, service: str, tmp_path: Path) -> Audited:
    """A service of this test alone."""
    return Audited(stack, elasticsearch, service, tmp_path)


def test_everything_signed_is_stored(audited: Audited) -> None:
    """An unchanged trail is covered, class by class."""
    stream_id, count = audited.write(30)
    audited.wait_for(stream_id, count)

    code, report = audited.coverage(stream_id)

    assert (code, report["ok"], report["missing"]) == (0, True, 0)
    (stream,) = report["streams"]
    assert stream["signed"] == count - 1
    assert stream["stored"] == count
    assert stream["classes"]["prediction"] == {"stored": 30, "missing": 0}


def test_deleted_documents_are_missed_and_sent_again(audited: Audited) -> None:
    """Deleted documents are reported exactly, sent again from this host's retained records, and then verify."""
    stream_id, count = audited.write(30)
    audited.wait_for(stream_id, count)
    hits = audited.hits(stream_id)
    audited.delete([*hits[4:8], hits[20]])

    code, report = audited.coverage(stream_id)

    assert code == 1
    assert report["streams"][0]["missing"] == [
        {"first": 5, "last": 8, "reason": "retained"},
        {"first": 21, "last": 21, "reason": "retained"},
    ]
    dry = audited.on_cluster("resend", "--stream", stream_id, "--dry-run", "--json")
    assert (json.loads(dry.stdout)["sent"], audited.coverage(stream_id)[0]) == (5, 1)

    sent = audited.on_cluster("resend", "--stream", stream_id, "--json")

    outcome = json.loads(sent.stdout)
    assert (sent.exit_code, outcome["sent"], outcome["stored"]) == (0, 5, 5)
    assert audited.coverage(stream_id)[0] == 0
    again = {hit["_id"]: hit["_source"]["event.original"] for hit in audited.hits(stream_id)}
    assert again == {hit["_id"]: hit["_source"]["event.original"] for hit in hits}
    assert audited.verify(stream_id)[0] == 0


def test_archive_gives_back_what_this_host_no_longer_keeps(audited: Audited) -> None:
    """Records can be sent again from the collector's archive as from the spool."""
    audited.more["MLAUDIT_RETAIN_SECONDS"] = "0"
    archive = audited.stack.archive
    assert archive is not None
    stream_id, count = audited.write(20)
    audited.wait_for(stream_id, count)
    hits = audited.hits(stream_id)
    audited.delete(hits[9:12])

    without = audited.on_cluster("resend", "--stream", stream_id, "--json")
    code, report = audited.coverage(stream_id, "--archive", archive)
    sent = audited.on_cluster("resend", "--stream", stream_id, "--archive", archive, "--json")

    assert (without.exit_code, json.loads(without.stdout)["missing"][0]["reason"]) == (1, "unknown")
    assert (code, report["streams"][0]["missing"]) == (1, [{"first": 10, "last": 12, "reason": "archive"}])
    assert (sent.exit_code, json.loads(sent.stdout)["from"]) == (0, {"archive": 3})
    assert audited.verify(stream_id)[0] == 0


def test_document_that_elasticsearch_refuses_for_good_is_found(audited: Audited) -> None:
    """A key with a NUL is rejected with 400 and counted as sent by the exporter; coverage finds it and reports why."""
    pipeline = audited.start()
    stream = pipeline.stream
    assert stream is not None
    for number in range(12):
        pipeline.emit(prediction(number, **({"labels": {"a\0b": "c"}} if number == 6 else {})))
    assert pipeline.close("test", 30)
    count = stream.head[0]
    audited.wait_for(stream.id, count - 1)
    stored = {int(hit["_source"]["event.sequence"]) for hit in audited.hits(stream.id)}
    (refused,) = set(range(1, count + 1)) - stored

    code, report = audited.coverage(stream.id)
    sent = audited.on_cluster("resend", "--stream", stream.id, "--json")

    assert code == 1
    assert report["streams"][0]["missing"] == [{"first": refused, "last": refused, "reason": "refused"}]
    assert report["streams"][0]["classes"]["prediction"] == {"stored": 11, "missing": 1}
    assert (sent.exit_code, json.loads(sent.stdout)["missing"][0]["reason"]) == (1, "refused")


def test_refused_document_is_sent_again_once_the_mapping_takes_it(audited: Audited) -> None:
    """A mapping that rejects a document loses no record: once it is repaired, a resend completes the trail."""
    client = audited.client
    first, count = audited.write(1)  # so that the data stream exists
    audited.wait_for(first, count)
    stream = "logs-mlaudit.prediction-default"
    deep = {"labels": {"a": {"b": {"c": {"d": "e"}}}}}

    def allow(depth: int) -> None:
        mapping = {"labels": {"type": "flattened", "depth_limit": depth, "ignore_above": 1024}}
        client.indices.put_mapping(index=stream, properties=mapping, write_index_only=True)

    allow(2)
    try:
        stream_id, count = audited.write(5, **deep)
        audited.wait_for(stream_id, count - 5)
        code, report = audited.coverage(stream_id)
        in_vain = audited.on_cluster("resend", "--stream", stream_id, "--wait", 2, "--json")
    finally:
        allow(100)

    sent = audited.on_cluster("resend", "--stream", stream_id, "--json")

    assert (code, report["missing"]) == (1, 5)
    assert {item["reason"] for item in report["streams"][0]["missing"]} == {"retained"}
    assert (in_vain.exit_code, json.loads(in_vain.stdout)["missing"][0]["reason"]) == (1, "not stored")
    assert (sent.exit_code, json.loads(sent.stdout)["stored"]) == (0, 5)
    assert audited.coverage(stream_id)[0] == audited.verify(stream_id)[0] == 0


def test_forged_archive_is_not_sent(audited: Audited, tmp_path: Path) -> None:
    """A record that was altered and hashed again does not match its neighbours, and is rejected before it is sent."""
    audited.more["MLAUDIT_RETAIN_SECONDS"] = "0"
    assert audited.stack.archive is not None
    stream_id, count = audited.write(20)
    audited.wait_for(stream_id, count)
    hits = audited.hits(stream_id)
    audited.delete(hits[9:10])
    forged = tmp_path / "forged.jsonl"
    forged.write_bytes(_forged(audited.stack.archive.read_bytes(), hits[9]["_source"]))

    sent = audited.on_cluster("resend", "--stream", stream_id, "--archive", forged, "--json", "--wait", 1)

    outcome = json.loads(sent.stdout)
    assert (sent.exit_code, outcome["sent"], outcome["refused"]) == (1, 0, 1)
    assert "what is stored or signed behind it says" in outcome["refusals"][0]
    assert len(audited.hits(stream_id)) == count - 1


def _forged(archive: bytes, source: dict[str, object]) -> bytes:
    """The archive's line with this record, its number of rows changed and all hashes recomputed."""
    from hashlib import sha256

    original = str(source["event.original"])
    changed = original.replace('"ml.prediction.rows":', '"ml.prediction.rows":9')
    for line in archive.splitlines():
        try:
            request = json.loads(line)
        except ValueError:  # a crash cut it short
            continue
        for resource in request.get("resourceLogs", []):
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    if record["body"].get("stringValue") == original:
                        record["body"]["stringValue"] = changed
                        for pair in record["attributes"]:
                            if pair["key"] == "audit.integrity.value":
                                pair["value"]["stringValue"] = sha256(changed.encode()).hexdigest()
                        scope["logRecords"] = [record]
                        return json.dumps(request).encode() + b"\n"
    raise AssertionError("the archive lacks the record")


def test_administrator_without_the_key_is_found_out(audited: Audited) -> None:
    """A cut tail and a removed stream, checkpoints included, contradict the checkpoints that left the machine."""
    stream_id, count = audited.write(25)
    audited.wait_for(stream_id, count)
    hits = audited.hits(stream_id)
    whole = audited.verify(stream_id, "--checkpoint", audited.exported)
    assert (whole[0], sorted(path.name for path in audited.exported.iterdir())) == (
        0,
        [f"{stream_id}.checkpoint"],
    )

    audited.delete(hits[-1:])
    end = audited.verify(stream_id, "--checkpoint", audited.exported)
    audited.delete(hits[12:-1])
    tail = audited.verify(stream_id, "--checkpoint", audited.exported)
    alone = audited.verify(stream_id)
    audited.delete(hits[:12])
    gone = audited.on_cluster(
        "verify", "--settle", 0, "--json", "--keys", audited.keys, "--checkpoint", audited.exported
    )

    assert (end[0], end[1]["counts"]) == (1, {"stream.tail_missing": 1})
    assert (tail[0], tail[1]["counts"]) == (1, {"stream.tail_missing": 1})
    assert tail[1]["findings"][0]["through"] == count
    assert alone[1]["counts"] == {}, "without the exported checkpoint nothing shows it"
    missing = [found for found in json.loads(gone.stdout)["findings"] if found.get("stream_id") == stream_id]
    assert [found["code"] for found in missing] == ["stream.missing"]


def test_chain_computed_again_is_found_out(audited: Audited) -> None:
    """An end of a stream that was recomputed without the key differs from the exported hash."""
    stream_id, count = audited.write(25)
    audited.wait_for(stream_id, count)
    hits = audited.hits(stream_id)

    for hit, source in recompute(hits, 15):
        audited.put(hit, source)
    audited.client.indices.refresh(index=INDEX)

    code, report = audited.verify(stream_id, "--checkpoint", audited.exported)
    assert code == 1
    assert "checkpoint.mismatch" in report["counts"]


def test_newest_checkpoints_are_exported_from_the_cluster(audited: Audited, tmp_path: Path) -> None:
    """The command takes the newest signature out of Elasticsearch, and never replaces an export by an older one."""
    stream_id, count = audited.write(25)
    audited.wait_for(stream_id, count)
    target = tmp_path / "by hand"

    first = audited.on_cluster("checkpoint", "export", "--to", target, "--stream", stream_id)
    hits = audited.hits(stream_id)
    audited.delete(hits[12:])
    second = audited.on_cluster("checkpoint", "export", "--to", target, "--stream", stream_id)

    assert first.exit_code == 0, first.stderr
    assert "1 written" in first.stderr
    kept = (target / f"{stream_id}.checkpoint").read_text().splitlines()
    assert kept[2] == str(count - 1)
    assert (second.exit_code, "its newest records were removed" in second.stderr) == (1, True)
    assert (target / f"{stream_id}.checkpoint").read_text().splitlines() == kept
