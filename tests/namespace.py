"""Audit data streams of one test alone, filled with records as the collector would store them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from elasticsearch import Elasticsearch
from elasticsearch.helpers import bulk


class Namespace:
    """Fresh audit data streams of one test."""

    def __init__(self, client: Elasticsearch, reader: Elasticsearch | None = None) -> None:
        self.client = client
        self.reader = reader or client
        self.name = f"case{uuid.uuid4().hex[:12]}"
        self.index = f"logs-mlaudit.*-{self.name}"
        self.stored: dict[str, list[str]] = {}

    def store(self, bodies: Iterable[dict[str, Any]]) -> None:
        """Store bodies where the collector would."""
        actions = [
            {
                "_op_type": "create",
                "_index": f"logs-{body['event.dataset']}-{self.name}",
                "_id": body["audit.record.id"],
                "_source": body,
            }
            for body in bodies
        ]
        for action in actions:
            self.stored.setdefault(action["_index"], []).append(action["_id"])
        bulk(self.client, actions, refresh=True)

    def empty(self) -> None:
        """Delete every record, so that no other test sees it; this server cannot delete a data stream."""
        actions = [
            {"_op_type": "delete", "_index": index, "_id": identity}
            for name, identities in self.stored.items()
            for index in self.client.indices.get(index=name)
            for identity in identities
        ]
        bulk(self.client, actions)
