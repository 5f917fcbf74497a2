"""Index templates for ordinary logs and traces, for an Elasticsearch that lacks Elastic's own.

A full Elasticsearch brings ``logs-otel@template`` and ``traces-otel@template``. The reduced one of the local
stack does not, and the collector's exporter drops documents for which no data stream template exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlaudit.errors import StackError
from mlaudit.stack.elasticsearch import request

if TYPE_CHECKING:
    from pathlib import Path

PATTERNS: Final = {
    "mlaudit-local-logs-otel": "logs-generic.otel-*",
    "mlaudit-local-traces-otel": "traces-generic.otel-*",
}


def install_telemetry_templates(url: str, auth: tuple[str, str], ca_file: Path | None) -> None:
    """Install them unless the cluster has Elastic's own.

    Raises:
        StackError: Elasticsearch refuses.
    """
    status, _ = request("GET", f"{url}/_index_template/logs-otel@template", auth=auth, ca_file=ca_file)
    if status == 200:
        return
    for name, pattern in PATTERNS.items():
        status, answer = request(
            "PUT", f"{url}/_index_template/{name}", auth=auth, ca_file=ca_file, body=_template(pattern)
        )
        if status != 200:
            raise StackError(f"expected Elasticsearch to take the template {name}, found {status}: {answer}")


def _template(pattern: str) -> dict[str, Any]:
    return {
        "index_patterns": [pattern],
        "data_stream": {},
        "priority": 200,
        "_meta": {"description": "ordinary OpenTelemetry logs and traces in mlaudit's local stack"},
        "template": {
            "settings": {
                "number_of_replicas": 0,
                "index.mapping.ignore_malformed": True,
                "index.mapping.total_fields.ignore_dynamic_beyond_limit": True,
            },
            "mappings": {
                "dynamic_templates": [
                    {
                        "short_strings": {
                            "match_mapping_type": "string",
                            "mapping": {"type": "keyword", "ignore_above": 1024},
                        }
                    }
                ],
                "properties": {
                    "@timestamp": {"type": "date_nanos"},
                    "observed_timestamp": {"type": "date_nanos"},
                    "attributes": {"type": "object", "subobjects": False},
                    "resource": {"properties": {"attributes": {"type": "object", "subobjects": False}}},
                    "scope": {"properties": {"attributes": {"type": "object", "subobjects": False}}},
                    "body": {
                        "properties": {
                            "text": {"type": "text"},
                            "structured": {"type": "object", "subobjects": False},
                        }
                    },
                },
            },
        },
    }
