"""Generates what Elasticsearch needs: templates, lifecycle policies, roles; two profiles of one definition.

``full`` is for an ordinary cluster. ``reduced`` is for one without the modules for lifecycle management,
``wildcard``, ``constant_keyword`` and ``match_only_text``; it replaces those types by the closest ones that every
cluster has. Why the mappings are as they are: ``docs/adr/0004-elasticsearch-mappings.md``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.load import load_catalog
from mlaudit.catalog.model import dataset
from tools.generate import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlaudit.catalog.model import Catalog, Field, StreamClass

FOLDER: Final = "src/mlaudit/install/elasticsearch"
OWNED: Final = (f"{FOLDER}/**/*.json",)
PROFILES: Final = ("full", "reduced")

#: Above Fleet's integrations (200), so that no other template takes our data streams.
PRIORITY: Final = 250
#: For a data set of a class that this version does not know.
PRIORITY_OTHER: Final = 210
#: The same value as in the built-in templates of a full cluster.
PRIORITY_TELEMETRY: Final = 120

#: In characters. Lucene refuses a term of more than 32766 bytes; a character has at most 4.
_IGNORE_ABOVE: Final = 1024
_IGNORE_ABOVE_LONG: Final = 8191
#: Deeper than the encoder of records goes: a deeper object would lose its document.
_DEPTH: Final = 100

_REDUCED: Final[Mapping[str, Mapping[str, Any]]] = {
    "wildcard": {"type": "keyword", "ignore_above": _IGNORE_ABOVE_LONG},
    "match_only_text": {"type": "text", "norms": False},
    "constant_keyword": {"type": "keyword", "ignore_above": _IGNORE_ABOVE},
}
_FULL: Final[Mapping[str, Mapping[str, Any]]] = {
    "wildcard": {"type": "wildcard", "ignore_above": _IGNORE_ABOVE_LONG},
    "match_only_text": {"type": "match_only_text"},
    "constant_keyword": {"type": "constant_keyword"},
    "keyword": {"type": "keyword", "ignore_above": _IGNORE_ABOVE},
    "flattened": {"type": "flattened", "ignore_above": _IGNORE_ABOVE, "depth_limit": _DEPTH},
}


def outputs(root: Path) -> Mapping[str, str]:
    """Every asset of both profiles as JSON, by path."""
    del root
    catalog = load_catalog()
    files: dict[str, str] = {}
    for profile in PROFILES:
        for kind, assets in assets_of(catalog, profile).items():
            for name, body in assets.items():
                files[f"{FOLDER}/{profile}/{kind}/{name}.json"] = _json(body)
    return files


def assets_of(catalog: Catalog, profile: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Body of every asset, by kind and name, in the order in which they must be installed."""
    full = profile == "full"
    policies = {f"mlaudit-{name}": _lifecycle(one) for name, one in catalog.classes.items()}
    components = {
        "mlaudit-settings": {"template": {"settings": _settings()}, "_meta": _meta()},
        "mlaudit-mappings": {"template": {"mappings": mappings(catalog, profile)}, "_meta": _meta()},
    }
    templates = {
        f"logs-mlaudit.{name}": _index_template(name, one, full=full) for name, one in catalog.classes.items()
    }
    templates["logs-mlaudit"] = _other_template(full=full)
    if full:
        return {
            "lifecycle_policies": policies,
            "component_templates": components,
            "index_templates": templates,
            "roles": _roles(),
        }
    templates["mlaudit-logs-otel"] = _telemetry_template("logs", _LOG_FIELDS)
    templates["mlaudit-traces-otel"] = _telemetry_template("traces", _SPAN_FIELDS)
    return {"component_templates": components, "index_templates": templates}


def mappings(catalog: Catalog, profile: str) -> dict[str, Any]:
    """The mappings of an audit record's document.

    ``subobjects: false`` keeps the flat dotted names; ``dynamic: false`` keeps a field that the catalog does
    not know in ``_source`` without a mapping, so that no producer can make a mapping conflict or explode.
    """
    return {
        "subobjects": False,
        "dynamic": False,
        "date_detection": False,
        "properties": {
            name: _mapping(name, field, profile)
            for name, field in sorted(catalog.fields.items())
            if not field.original_only
        },
    }


def _mapping(name: str, field: Field, profile: str) -> dict[str, Any]:
    if name == "data_stream.type" and profile == "full":
        return {"type": "constant_keyword", "value": "logs"}
    if field.unindexed:
        # Neither indexed nor in doc values: no length limit, and never a reason to reject a document.
        return {"type": "keyword", "index": False, "doc_values": False}
    if profile == "reduced" and field.type in _REDUCED:
        return dict(_REDUCED[field.type])
    return dict(_FULL.get(field.type, {"type": field.type}))


def _settings() -> dict[str, Any]:
    return {
        # Not logsdb: its synthetic source may return the fields of a document in another order.
        "index.mode": "standard",
        "index.codec": "best_compression",
        "index.mapping.ignore_malformed": True,
        "index.auto_expand_replicas": "0-1",
    }


def _index_template(name: str, stream: StreamClass, *, full: bool) -> dict[str, Any]:
    template: dict[str, Any] = {}
    if full:
        template = {
            "settings": {"index.lifecycle.name": f"mlaudit-{name}"},
            "mappings": {
                "properties": {"data_stream.dataset": {"type": "constant_keyword", "value": dataset(name)}}
            },
            "data_stream_options": {"failure_store": {"enabled": True}},
        }
    return _audit_template(f"logs-{dataset(name)}-*", PRIORITY, template, stream.meaning)


def _other_template(*, full: bool) -> dict[str, Any]:
    template: dict[str, Any] = {"data_stream_options": {"failure_store": {"enabled": True}}} if full else {}
    return _audit_template("logs-mlaudit.*-*", PRIORITY_OTHER, template, "Any other class of audit records.")


def _audit_template(pattern: str, priority: int, template: dict[str, Any], about: str) -> dict[str, Any]:
    return {
        "index_patterns": [pattern],
        "priority": priority,
        "composed_of": ["mlaudit-settings", "mlaudit-mappings", "mlaudit@custom"],
        "ignore_missing_component_templates": ["mlaudit@custom"],
        "data_stream": {},
        "template": template,
        "_meta": {**_meta(), "description": about},
    }


def _lifecycle(stream: StreamClass) -> dict[str, Any]:
    return {
        "policy": {
            "phases": {
                "hot": {
                    "min_age": "0ms",
                    "actions": {"rollover": {"max_primary_shard_size": "50gb", "max_age": "30d"}},
                },
                "warm": {"min_age": "1d", "actions": {"readonly": {}}},
                "delete": {
                    "min_age": f"{stream.retention_days}d",
                    "actions": {"delete": {"delete_searchable_snapshot": True}},
                },
            },
            "_meta": {**_meta(), "description": stream.why},
        }
    }


def _roles() -> dict[str, dict[str, Any]]:
    """Least privilege, one role per task. None may change or delete a record."""
    audit = ["logs-mlaudit.*-*"]
    alerts = [".alerts-security.alerts-*", ".internal.alerts-security.alerts-*"]
    telemetry = ["logs-*.otel-*", "traces-*.otel-*", "metrics-*.otel-*"]
    adding = ["auto_configure", "create_doc"]
    reading = ["read", "view_index_metadata"]
    return {
        # The collector's privileges: it adds documents and creates data streams; it cannot read.
        "mlaudit_writer": _role([], _grant(audit, adding)),
        "mlaudit_telemetry": _role([], _grant(telemetry, adding)),
        "mlaudit_reader": _role(["monitor"], _grant(audit, reading)),
        # For mlaudit alerts, in addition to the reader's: alerts of Elastic Security's rules, in every Kibana space.
        "mlaudit_alerts": _role(["monitor"], _grant(alerts, reading)),
        # Also reads documents that Elasticsearch could not index, for a proof that nothing is missing.
        "mlaudit_auditor": _role(["monitor"], _grant(audit, [*reading, "read_failure_store"])),
    }


def _role(cluster: list[str], grant: dict[str, Any]) -> dict[str, Any]:
    return {"cluster": cluster, "indices": [grant], "metadata": _meta()}


def _grant(names: list[str], privileges: list[str]) -> dict[str, Any]:
    return {"names": names, "privileges": privileges, "allow_restricted_indices": False}


_KEYWORD: Final = {"type": "keyword", "ignore_above": _IGNORE_ABOVE}
_ATTRIBUTES: Final = {"type": "flattened", "ignore_above": _IGNORE_ABOVE, "depth_limit": _DEPTH}
_LOG_FIELDS: Final[Mapping[str, Any]] = {
    "body": {"properties": {"text": {"type": "text", "norms": False}, "structured": _ATTRIBUTES}},
    "event_name": _KEYWORD,
    "observed_timestamp": {"type": "date_nanos"},
    "severity_number": {"type": "long"},
    "severity_text": _KEYWORD,
}
_SPAN_FIELDS: Final[Mapping[str, Any]] = {
    "duration": {"type": "long"},
    "kind": _KEYWORD,
    "links": {"type": "object", "enabled": False},
    "name": _KEYWORD,
    "parent_span_id": _KEYWORD,
    "status": {"properties": {"code": _KEYWORD, "message": _KEYWORD}},
    "trace_state": _KEYWORD,
}


def _telemetry_template(signal: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """For ordinary telemetry in the collector's otel mode; a full cluster brings its own templates for it."""
    properties = {
        "@timestamp": {"type": "date_nanos"},
        "attributes": _ATTRIBUTES,
        "data_stream": {"properties": dict.fromkeys(("type", "dataset", "namespace"), _KEYWORD)},
        "resource": {"properties": {"attributes": _ATTRIBUTES, "schema_url": _KEYWORD}},
        "scope": {"properties": {"attributes": _ATTRIBUTES, "name": _KEYWORD, "version": _KEYWORD}},
        "span_id": _KEYWORD,
        "trace_id": _KEYWORD,
        **fields,
    }
    return {
        "index_patterns": [f"{signal}-*.otel-*"],
        "priority": PRIORITY_TELEMETRY,
        "composed_of": ["mlaudit-settings"],
        "data_stream": {},
        "template": {"mappings": {"dynamic": False, "properties": dict(sorted(properties.items()))}},
        "_meta": {**_meta(), "description": f"Ordinary {signal} of the audited services."},
    }


def _meta() -> dict[str, Any]:
    return {"managed_by": "mlaudit", "note": MARK}


def _json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
