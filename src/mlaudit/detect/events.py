"""Alerts of ``mlaudit detect`` as audit events."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import DETECTION_ALERT
from mlaudit.detect.plans import load_plans
from mlaudit.event import SYSTEM, Actor, AuditEvent, Target
from mlaudit.rfc3339 import with_offset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from mlaudit.detect.alert_trail import AlertTrail
    from mlaudit.detect.compiled_rule import Alert

DETECTION: Final = Actor("detection", SYSTEM)
#: Elastic Security's risk score of each level.
SEVERITY: Final = {"informational": 1, "low": 21, "medium": 47, "high": 73, "critical": 99}
#: Fields of an alert that name its target, the best first, with the type of target.
_TARGETS: Final = (
    ("audit.actor.id", "actor"),
    ("source.ip", "source"),
    ("ml.model.name", "model"),
    ("service.name", "service"),
)


def record_alerts(trail: AlertTrail, alerts: Iterable[Alert], until: datetime | None = None) -> int:
    """Records the alerts not recorded before and returns their number. Then saves ``until`` as the position.

    Raises:
        SpoolError: an alert could not be recorded; the next run finds it again.
    """
    recorded = sum(
        trail.record(finding_key(alert), alert_event(alert)) for alert in alerts if not about_alerts(alert)
    )
    if until is not None:
        trail.reach(with_offset(until, "microseconds"))
    return recorded


def finding_key(alert: Alert) -> str:
    """The key of a finding, stable across runs.

    A sequence is identified by its beginning, so a continuing one is recorded once (once per window, if it
    continues for longer); single records by the last of them, so further ones are recorded again.
    """
    sequences = {plan.id for plan in load_plans() if plan.window_seconds}
    moment = alert.first if alert.rule_id in sequences else alert.last
    return json.dumps([alert.rule_id, alert.group, moment], sort_keys=True)


def about_alerts(alert: Alert) -> bool:
    """Whether a rule fired only on records of alerts: recording that would trigger the rule for ever."""
    return alert.entities.get("audit.kind") == [DETECTION_ALERT]


def alert_event(alert: Alert) -> AuditEvent:
    """The event of an alert."""
    shared = alert.group | {name: values[0] for name, values in alert.entities.items() if len(values) == 1}
    named = ", ".join(f"{name} {value}" for name, value in alert.group.items())
    plural = "" if alert.count == 1 else "s"
    reason = f"{alert.count} record{plural} from {alert.first} to {alert.last}"
    return AuditEvent(
        DETECTION_ALERT,
        actor=DETECTION,
        target=target_of(alert.group) or target_of(shared) or Target("rule", alert.rule),
        fields={
            "rule.id": alert.rule_id,
            "rule.name": alert.title,
            "event.severity": SEVERITY[alert.level],
            "event.reason": f"{reason}; {named}" if named else reason,
            "audit.detection.engine": "mlaudit",
            **({"audit.detection.records": list(alert.records)} if alert.records else {}),
            **source_of(shared.get("source.ip")),
        },
    )


def target_of(values: Mapping[str, Any]) -> Target | None:
    """The target of an alert, from the fields that its records share."""
    for name, type_ in _TARGETS:
        value = values.get(name)
        if isinstance(value, str) and value and (name != "source.ip" or source_of(value)):
            return Target(type_, value)
    return None


def source_of(address: Any) -> dict[str, str]:
    """``source.ip``, where there is one valid address."""
    try:
        return {"source.ip": str(ipaddress.ip_address(address))}
    except ValueError:
        return {}
