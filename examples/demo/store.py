"""The demo's reads from Elasticsearch, and its tampering as a malicious administrator."""

from __future__ import annotations

import json
from typing import Any

from mlaudit.cluster.client import connect
from mlaudit.detect.compiled_rule import INDEX
from mlaudit.stack.local_stack import Stack

Document = dict[str, Any]


class Store:
    """The audit data streams, reached with the administrator's rights."""

    def __init__(self, stack: Stack) -> None:
        self._client = connect(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file)

    def count(self) -> int:
        """The number of audit records stored."""
        self._client.indices.refresh(index=INDEX)
        return int(self._client.count(index=INDEX)["count"])

    def one_prediction(self) -> Document:
        """The original of a successful prediction that was traced, and its hash."""
        query = {
            "bool": {
                "filter": [
                    {"term": {"audit.kind": "audit.ml.prediction"}},
                    {"term": {"event.outcome": "success"}},
                    {"exists": {"field": "trace.id"}},
                    {"exists": {"field": "ml.model.digest"}},
                ]
            }
        }
        stored = self._search(query)["_source"]
        return {**json.loads(stored["event.original"]), "event.hash": stored["event.hash"]}

    def alter_one(self) -> Document:
        """Makes a denied access look as if another user had been denied."""
        hit = self._search({"term": {"audit.kind": "audit.access.denied"}})
        self._client.update(
            index=hit["_index"], id=hit["_id"], doc={"user.name": "alice", "user.id": "alice"}, refresh=True
        )
        return hit

    def delete_one(self) -> Document:
        """Deletes the record of a configuration change."""
        hit = self._search({"term": {"audit.kind": "audit.ml.config.changed"}})
        self._client.delete(index=hit["_index"], id=hit["_id"], refresh=True)
        return hit

    def _search(self, query: dict[str, Any]) -> Document:
        hits = self._client.search(index=INDEX, query=query, size=1, sort=[{"@timestamp": "asc"}])["hits"][
            "hits"
        ]
        if not hits:
            raise SystemExit(f"Elasticsearch has no record for {query}")
        found: Document = hits[0]
        return found
