"""Alerts of Kibana's detection engine, read from ``.alerts-security.alerts-<space>``, as audit events."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from elasticsearch import ApiError, NotFoundError

from mlaudit.catalog.names import DETECTION_ALERT
from mlaudit.cluster.page import hits, search
from mlaudit.detect.events import DETECTION, SEVERITY, source_of, target_of
from mlaudit.errors import ClusterError, SourceError
from mlaudit.event import AuditEvent, Target
from mlaudit.rfc3339 import with_offset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from elasticsearch import Elasticsearch

    from mlaudit.detect.alert_trail import AlertTrail

INDEX: Final = ".alerts-security.alerts-{space}"
#: Tag of every rule in detections/elastic.
TAG: Final = "Data Source: mlaudit"
PAGE: Final = 500
#: An alert is stored some time after its timestamp: each read begins this far before the last position.
OVERLAP: Final = timedelta(minutes=10)
_RECORDS: Final = 20
_REASON: Final = 1000
_SORT: Final = [
    {"@timestamp": {"order": "asc", "unmapped_type": "date"}},
    {"kibana.alert.uuid": {"order": "asc", "unmapped_type": "keyword"}},
]
_RECORD_ID: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(-[0-9a-f]{32})?")


def record_new(
    client: Elasticsearch, space: str, trail: AlertTrail, since: datetime, page: int = PAGE
) -> int:
    """Records every alert not recorded before, from the saved position, else ``since``; returns their number.

    Raises:
        SourceError: the alerts cannot be read.
        SpoolError: an alert could not be recorded; the next read finds it again.
    """
    start = datetime.fromisoformat(trail.position) - OVERLAP if trail.position else since
    recorded = 0
    for hit in read_alerts(client, space, start, page):
        source = hit["_source"]
        identity = _first(value_of(source, "kibana.alert.uuid")) or str(hit["_id"])
        if not _about_alerts(source):
            recorded += trail.record(f"kibana {identity}", kibana_event(source, identity))
        moment = _moment(value_of(source, "@timestamp"))
        if moment is not None:
            trail.reach(with_offset(moment))
    return recorded


def read_alerts(
    client: Elasticsearch, space: str, since: datetime, page: int = PAGE
) -> Iterator[dict[str, Any]]:
    """The hits of the alerts of mlaudit's rules since a time, oldest first, page by page.

    Raises:
        SourceError: there is no such index, or Elasticsearch does not answer or refuses.
    """
    index = INDEX.format(space=space)
    filters: list[dict[str, Any]] = [
        {"range": {"@timestamp": {"gte": with_offset(since)}}},
        {"term": {"kibana.alert.rule.tags": TAG}},
    ]
    alerts = partial(search, client, "reading alerts", index=index)
    try:
        yield from hits(alerts, size=page, query={"bool": {"filter": filters}}, sort=_SORT)
    except ClusterError as error:
        if isinstance(error.__cause__, NotFoundError):
            raise SourceError(
                f"expected the alerts of Elastic Security in {index}, found no such index; name the Kibana space "
                "in which the rules run (--space), after a rule has run"
            ) from None
        if isinstance(error.__cause__, ApiError):
            raise SourceError(
                f"Elasticsearch refused to show {index}: {error}; the user needs the role mlaudit_alerts"
            ) from error
        raise


def kibana_event(source: Mapping[str, Any], identity: str) -> AuditEvent:
    """The event of an alert document; see Elastic's "Alert schema" for its fields."""
    rule = _first(value_of(source, "kibana.alert.rule.name")) or "unnamed rule"
    rule_id = _first(value_of(source, "kibana.alert.rule.rule_id")) or _first(
        value_of(source, "kibana.alert.rule.uuid")
    )
    shared = {
        name: _first(value_of(source, name))
        for name in ("audit.actor.id", "source.ip", "ml.model.name", "service.name")
    }
    fields: dict[str, Any] = {
        "rule.name": rule,
        "event.severity": _severity(source),
        "audit.detection.engine": "kibana",
        "audit.detection.alert_id": identity,
        **source_of(shared["source.ip"]),
    }
    if rule_id:
        fields["rule.id"] = rule_id
    if reason := _first(value_of(source, "kibana.alert.reason")):
        fields["event.reason"] = reason[:_REASON]
    if records := _records(source):
        fields["audit.detection.records"] = records
    event = AuditEvent(
        DETECTION_ALERT, actor=DETECTION, target=target_of(shared) or Target("rule", rule), fields=fields
    )
    moment = _moment(value_of(source, "@timestamp"))
    if moment is not None:
        event.timestamp = int(moment.timestamp() * 1_000_000) * 1000
    return event


def value_of(source: Mapping[str, Any], name: str) -> Any:
    """The value of a field, written as one dotted name, as objects, or as a mixture; None when absent."""
    if name in source:
        return source[name]
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        inner = source.get(".".join(parts[:count]))
        if isinstance(inner, dict):
            found = value_of(inner, ".".join(parts[count:]))
            if found is not None:
                return found
    return None


def _records(source: Mapping[str, Any]) -> list[str]:
    """Ids of the records behind an alert: of the one that it copies, and of its ancestors."""
    found = [_first(value_of(source, "audit.record.id"))]
    ancestors = value_of(source, "kibana.alert.ancestors")
    for ancestor in ancestors if isinstance(ancestors, list) else ():
        # A document's id is its record's and a part of its hash (docs/adr/0009-document-id.md).
        known = _RECORD_ID.fullmatch(str(ancestor.get("id", ""))) if isinstance(ancestor, dict) else None
        if known and "logs-mlaudit." in str(ancestor.get("index", "")):
            found.append(known[1])
    return [one for one in dict.fromkeys(found) if one][:_RECORDS]


def _about_alerts(source: Mapping[str, Any]) -> bool:
    """Whether a rule fired on the record of an alert: recording that would trigger the rule for ever."""
    return _first(value_of(source, "audit.kind")) == DETECTION_ALERT


def _severity(source: Mapping[str, Any]) -> int:
    score = value_of(source, "kibana.alert.risk_score")
    if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 100:
        return int(score)
    return SEVERITY.get(_first(value_of(source, "kibana.alert.severity")), 0)


def _first(value: Any) -> str:
    """The text, or the first text of several; empty for anything else."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_first(value))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
