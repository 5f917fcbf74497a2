"""A stream that a real pipeline writes through the stack, with its checkpoints exported to a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch
from tests.conftest import wait_for
from typer.testing import CliRunner, Result

from mlaudit.cli import app
from mlaudit.event import Actor, AuditEvent, Target
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.pipeline.pipeline import Pipeline
from mlaudit.settings import Settings
from mlaudit.stack import Stack

INDEX = "logs-mlaudit.*"


@dataclass
class Audited:
    """One service on this host: its state folder, its settings, and an administrator's operations on the cluster."""

    stack: Stack
    client: Elasticsearch
    service: str
    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        """Its verifier keys."""
        return self.folder / "state" / "keys"

    @property
    def exported(self) -> Path:
        """The folder to which the service exports its checkpoints."""
        return self.folder / "exported"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the service, and a reader's credentials for the command line."""
        user, password = self.stack.reader_auth
        trust = {"MLAUDIT_CA_FILE": str(self.stack.otlp_ca_file)} if self.stack.otlp_ca_file else {}
        return {
            "MLAUDIT_STATE_DIR": str(self.folder / "state"),
            "MLAUDIT_ENDPOINT": self.stack.otlp_endpoint,
            "MLAUDIT_TOKEN_FILE": str(self.stack.token_file),
            "MLAUDIT_SERVICE_NAME": self.service,
            "MLAUDIT_CHECKPOINT_RECORDS": "10",
            "MLAUDIT_CHECKPOINT_SECONDS": "0.2",
            "MLAUDIT_CHECKPOINT_EXPORT_DIR": str(self.exported),
            "MLAUDIT_ES_USERNAME": user,
            "MLAUDIT_ES_PASSWORD": password,
            **trust,
            **self.more,
        }

    def start(self) -> Pipeline:
        """A process of the service."""
        own = {name: value for name, value in self.environment.items() if "_ES_" not in name}
        settings = Settings.from_env(own)
        pipeline = Pipeline(settings, SpoolBackend(settings))
        pipeline.open()
        return pipeline

    def write(self, count: int, **fields: Any) -> tuple[str, int]:
        """Writes a whole stream of ``count`` events; returns its id and last sequence once it is delivered."""
        pipeline = self.start()
        stream = pipeline.stream
        assert stream is not None
        for number in range(count):
            pipeline.emit(prediction(number, **fields))
            if number % 10 == 4:
                stream.checkpoint()
        assert pipeline.close("test", 30)
        return stream.id, stream.head[0]

    def hits(self, stream_id: str) -> list[dict[str, Any]]:
        """The documents of a stream, by sequence."""
        self.client.indices.refresh(index=INDEX)
        answer = self.client.search(
            index=INDEX,
            query={"term": {"audit.sequence.stream_id": stream_id}},
            sort=[{"event.sequence": "asc"}],
            size=2000,
            seq_no_primary_term=True,
        )
        found: list[dict[str, Any]] = answer["hits"]["hits"]
        return found

    def wait_for(self, stream_id: str, count: int) -> None:
        """Waits until this number of documents of the stream are stored."""
        wait_for(lambda: len(self.hits(stream_id)) == count, f"{count} documents of {stream_id}")

    def delete(self, hits: list[dict[str, Any]]) -> None:
        """Deletes documents, as an administrator of the cluster can."""
        for hit in hits:
            self.client.delete(index=hit["_index"], id=hit["_id"])
        self.client.indices.refresh(index=INDEX)

    def put(self, hit: dict[str, Any], source: dict[str, Any]) -> None:
        """Overwrites a document, as an administrator of the cluster can."""
        self.client.index(
            index=hit["_index"],
            id=hit["_id"],
            document=source,
            if_seq_no=hit["_seq_no"],
            if_primary_term=hit["_primary_term"],
        )

    def run(self, *arguments: object) -> Result:
        """The command line on the host of the service."""
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=self.environment)

    def on_cluster(self, *arguments: object) -> Result:
        """The command line against the cluster."""
        trust = ["--ca-file", self.stack.ca_file] if self.stack.ca_file else []
        return self.run(*arguments, "--elasticsearch", self.stack.elasticsearch_url, *trust)

    def coverage(self, stream_id: str, *arguments: object) -> tuple[int, dict[str, Any]]:
        """Exit code and JSON of the coverage of one stream."""
        result = self.on_cluster(
            "verify", "--coverage", "--stream", stream_id, "--settle", 0, "--json", *arguments
        )
        return result.exit_code, json.loads(result.stdout)

    def verify(self, stream_id: str, *arguments: object) -> tuple[int, dict[str, Any]]:
        """Exit code and JSON of the verification of one stream."""
        result = self.on_cluster("verify", "--stream", stream_id, "--settle", 0, "--json", *arguments)
        return result.exit_code, json.loads(result.stdout)


def prediction(number: int, **fields: Any) -> AuditEvent:
    """One event."""
    return AuditEvent(
        "audit.ml.prediction",
        actor=Actor("user-1"),
        target=Target("model", "fraud@3"),
        fields={"ml.model.name": "fraud", "ml.prediction.rows": number, **fields},
    )
