"""Verification of a real Elasticsearch and a real archive file, written by a real collector."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from elasticsearch import Elasticsearch
from tests.sealed import altered, document, named
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.event import Actor, AuditEvent, Target
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.seal.keys import load_verifier_keys
from mlaudit.settings import Settings
from mlaudit.stack import Stack
from mlaudit.verify.report import Report
from mlaudit.verify.sources.cluster_source import ElasticsearchSource
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.verification import verify_source

pytestmark = pytest.mark.stack

INDEX = "logs-mlaudit.*"
STREAM = "logs-mlaudit.prediction-default"
PREDICTIONS = 40


@dataclass(frozen=True)
class Trail:
    """A stream that a real pipeline wrote through the collector."""

    stack: Stack
    client: Elasticsearch
    stream_id: str
    state_dir: Path
    count: int

    @property
    def keys(self) -> Path:
        """Its verifier keys."""
        return self.state_dir / "keys"

    def hits(self) -> list[dict[str, Any]]:
        """Its documents, by sequence."""
        self.client.indices.refresh(index=INDEX)
        answer = self.client.search(
            index=INDEX,
            query={"term": {"audit.sequence.stream_id": self.stream_id}},
            sort=[{"event.sequence": "asc"}],
            size=1000,
            seq_no_primary_term=True,
        )
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    def put(self, hit: dict[str, Any], source: dict[str, Any]) -> None:
        """Overwrites a document as an administrator can."""
        self.client.index(
            index=hit["_index"],
            id=hit["_id"],
            document=source,
            if_seq_no=hit["_seq_no"],
            if_primary_term=hit["_primary_term"],
            refresh=True,
        )

    def verify(self, **options: Any) -> Report:
        """Verifies the stream with a reader's rights."""
        source = ElasticsearchSource(
            self.stack.elasticsearch_url, self.stack.reader_auth, ca_file=self.stack.ca_file, page=7
        )
        return verify_source(
            source, load_verifier_keys(self.keys), stream=self.stream_id, settle=0, **options
        )


@pytest.fixture
def write_trail(
    stack: Stack, elasticsearch: Elasticsearch, service: str, tmp_path: Path, sender: Any
) -> Callable[..., Trail]:
    """Writes a stream and returns once all of it can be searched."""

    def write(*, end: bool = True) -> Trail:
        settings = Settings.from_env(
            {
                "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
                "MLAUDIT_ENDPOINT": stack.otlp_endpoint,
                "MLAUDIT_TOKEN_FILE": str(stack.token_file),
                "MLAUDIT_SERVICE_NAME": service,
                "MLAUDIT_CHECKPOINT_RECORDS": "10",
            }
        )
        pipeline = Pipeline(settings, SpoolBackend(settings))
        pipeline.open()
        stream = pipeline.stream
        assert stream is not None
        for number in range(PREDICTIONS):
            pipeline.emit(
                AuditEvent(
                    "audit.ml.prediction",
                    actor=Actor(f"user-{number % 3}"),
                    target=Target("model", "fraud@3"),
                    fields={
                        "ml.model.name": 'fraud “naïve” \u2028 😀 "quoted"',
                        "ml.prediction.rows": number,
                        "ml.prediction.batch": number % 2 == 0,
                        "ml.models": ["fraud", "backup"],
                        "ml.training.parameters": {
                            "depth": number,
                            "rate": 0.1,
                            "tiny": 1e-300,
                            "flag": True,
                        },
                        "ml.training.best_score": number / 7,
                        "http.response.body.bytes": 2**60 + number,
                    },
                )
            )
            if number % 10 == 9:
                stream.checkpoint()
        if end:
            assert pipeline.close("test", 30)
        count = stream.head[0]
        trail = Trail(stack, elasticsearch, stream.id, settings.state_dir, count)
        sender.wait_for(lambda: len(trail.hits()) == count, f"all {count} documents")
        if not end:
            pipeline.close("test", 5)
        return trail

    return write


@pytest.fixture
def trail(write_trail: Callable[..., Trail]) -> Iterator[Trail]:
    """A whole stream; its documents are deleted afterwards, so that no other test sees the changes."""
    written = write_trail()
    yield written
    for hit in written.hits():
        written.client.delete(index=hit["_index"], id=hit["_id"])


def test_untouched_trail_is_proven(trail: Trail) -> None:
    """Records that went through spool, collector and Elasticsearch hold, projection included."""
    report = trail.verify()

    assert report.findings == []
    assert report.ok
    assert report.records == trail.count
    assert [(stream.state, stream.unsigned) for stream in report.streams] == [("ended", 0)]


def test_archive_of_the_collector_is_proven(trail: Trail) -> None:
    """The archive that the collector's file exporter writes is proven like Elasticsearch."""
    archive = trail.stack.archive
    assert archive is not None

    report = verify_source(open_source(archive), load_verifier_keys(trail.keys), stream=trail.stream_id)

    # Other tests kill this collector, which may leave half a line.
    assert [finding for finding in report.findings if finding.code != "source.damaged"] == []
    assert report.records == trail.count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event.outcome", "failure"),
        ("ml.prediction.rows", 1000),
        ("audit.sequence.number", 3),
        ("user.name", "eve"),
    ],
)
def test_altered_searchable_field_is_named(trail: Trail, name: str, value: object) -> None:
    """A document with an altered searchable field is reported, with the field."""
    hit = trail.hits()[9]
    trail.put(hit, {**hit["_source"], name: value})

    findings = trail.verify().findings

    assert named(findings) == [("projection.changed", 10, 10)]
    assert findings[0].fields == (name,)
    assert findings[0].record_id == hit["_source"]["audit.record.id"]


def test_altered_original_is_named(trail: Trail) -> None:
    """A document with an altered original is reported, whether or not hash and projection were altered too."""
    hit = trail.hits()[9]
    fields = orjson.loads(hit["_source"]["event.original"])
    fields["audit.outcome"] = fields["event.outcome"] = "failure"
    original = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()

    trail.put(hit, {**hit["_source"], "event.original": original})

    assert named(trail.verify().findings) == [("original.changed", 10, 10)]


def test_deleted_document_is_named(trail: Trail) -> None:
    """A deleted document is a gap at its sequence."""
    hit = trail.hits()[9]
    trail.client.delete(index=hit["_index"], id=hit["_id"], refresh=True)

    assert named(trail.verify().findings) == [("chain.gap", 10, 10)]


def test_inserted_and_replayed_documents_are_named(trail: Trail) -> None:
    """An added document is reported, whether it is a copy or a forgery."""
    source = trail.hits()[9]["_source"]
    trail.client.create(index=STREAM, id=f"copy-{trail.stream_id}", document=source, refresh=True)
    assert named(trail.verify().findings) == [("record.replayed", 10, 10)]

    forged = document(altered(source["event.original"].encode(), "message", "nothing happened"))
    added = {**forged.source, "event.original": forged.original.decode(), "event.hash": forged.hash}
    added["event.sequence"] = 10
    trail.client.create(index=STREAM, id=f"forged-{trail.stream_id}", document=added, refresh=True)

    codes = {finding.code for finding in trail.verify().findings}
    assert codes == {"record.replayed", "record.inserted"}


def test_window_in_elasticsearch(trail: Trail) -> None:
    """A time window cuts the stream at the documents' own times, and only documents inside it are read."""
    times = [hit["_source"]["@timestamp"] for hit in trail.hits()]

    report = trail.verify(since=times[9], until=times[20])

    assert report.findings == []
    assert 9 <= report.streams[0].first <= 11
    assert 19 <= report.streams[0].last <= 22
    assert report.not_checked


def test_open_stream_is_normal(write_trail: Callable[..., Trail]) -> None:
    """A running service has an open stream, signed up to its last checkpoint."""
    trail = write_trail(end=False)

    source = ElasticsearchSource(
        trail.stack.elasticsearch_url, trail.stack.reader_auth, ca_file=trail.stack.ca_file
    )
    report = verify_source(source, load_verifier_keys(trail.keys), stream=trail.stream_id)

    assert report.ok
    assert report.streams[0].checkpoints_good >= 4


def test_command_line_against_elasticsearch(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit codes 0, 1 and 2, with credentials from the environment."""
    user, password = trail.stack.reader_auth
    monkeypatch.setenv("MLAUDIT_ES_USERNAME", user)
    monkeypatch.setenv("MLAUDIT_ES_PASSWORD", password)
    arguments = ["verify", "--elasticsearch", trail.stack.elasticsearch_url, "--keys", str(trail.keys)]
    arguments += ["--stream", trail.stream_id, "--json"]
    arguments += ["--ca-file", str(trail.stack.ca_file)] if trail.stack.ca_file else []

    holds = CliRunner().invoke(app, arguments)
    hit = trail.hits()[9]
    trail.client.delete(index=hit["_index"], id=hit["_id"], refresh=True)
    broken = CliRunner().invoke(app, arguments)
    monkeypatch.setenv("MLAUDIT_ES_PASSWORD", "wrong")
    refused = CliRunner().invoke(app, arguments)

    assert (holds.exit_code, json.loads(holds.stdout)["records"]) == (0, trail.count)
    assert (broken.exit_code, json.loads(broken.stdout)["counts"]) == (1, {"chain.gap": 1})
    assert (refused.exit_code, "refuses the credentials" in refused.stderr) == (2, True)
    assert os.environ["MLAUDIT_ES_PASSWORD"] not in broken.stdout + refused.stdout + refused.stderr
