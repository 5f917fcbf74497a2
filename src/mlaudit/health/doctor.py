"""Follows the path of a record from the settings to the index, and names the first broken link."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from mlaudit.health import cluster_links, collector_links, local_links, probe
from mlaudit.health.checks import BROKEN

if TYPE_CHECKING:
    from mlaudit.health.checks import Check, CheckContext, Result

#: In the order in which a record passes them.
CHECKS: Final[tuple[Check, ...]] = (
    ("settings", local_links.settings),
    ("policy", local_links.policy),
    ("keys", local_links.keys),
    ("spool", local_links.spool),
    ("collector: name", collector_links.name),
    ("collector: connection", collector_links.connection),
    ("collector: certificate", collector_links.tls),
    ("collector: authentication", collector_links.authentication),
    ("collector: acceptance", collector_links.acceptance),
    ("clock", collector_links.clock),
    ("collector: counters", collector_links.counters),
    ("probe: sent", probe.send),
    ("Elasticsearch: name", cluster_links.name),
    ("Elasticsearch: connection", cluster_links.connection),
    ("Elasticsearch: certificate", cluster_links.tls),
    ("Elasticsearch: authentication", cluster_links.authentication),
    ("Elasticsearch: templates", cluster_links.templates),
    ("probe: arrived", cluster_links.arrival),
    ("probe: verified", cluster_links.proof),
)


def to_json(results: list[Result], context: CheckContext) -> dict[str, Any]:
    """The results as plain values."""
    broken = next((one.step for one in results if one.state == BROKEN), None)
    return {
        "ok": broken is None,
        "broken": broken,
        "warnings": sum(len(one.warnings) for one in results),
        "probe": asdict(context.probe) if context.probe else None,
        "checks": [asdict(one) for one in results],
    }
