"""A lineage as JSON, in a stable form: its schema is ``lineage.schema.json`` in this package.

A breaking change increments ``SCHEMA``; an addition does not.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.lineage.ask.reference import Version
    from mlaudit.lineage.chain.nodes import Lineage, Node

SCHEMA: Final = "mlaudit.lineage/1"


def document(lineage: Lineage, proofs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The lineage as plain values.

    Args:
        lineage: to convert.
        proofs: the verification result of each stream; None where it did not run.
    """
    chosen = lineage.chosen
    return {
        "schema": SCHEMA,
        "model": {
            "name": chosen.name,
            "version": chosen.version,
            "reason": chosen.reason,
            "digests": list(lineage.digests),
        },
        "window": {"since": lineage.since, "until": lineage.until},
        "nodes": [_node(lineage, node) for node in lineage.nodes],
        "edges": [asdict(edge) for edge in lineage.edges],
        "gaps": [{"stage": str(gap.stage), "node": gap.node, "text": gap.text} for gap in lineage.gaps],
        "more_runs": dict(lineage.more_runs),
        "versions": [_version(one) for one in chosen.versions],
        "evidence": {
            "read": len(lineage.held),
            "counted": lineage.counted,
            "unsealed": lineage.unsealed,
            "faults": lineage.faults,
            "streams": [
                {
                    "stream_id": stream,
                    "records": records,
                    "verified": proofs.get(stream, "not looked at")
                    if proofs is not None
                    else "not looked at",
                }
                for stream, records in lineage.streams.items()
            ],
        },
        "notes": list(lineage.notes),
    }


def _version(one: Version) -> dict[str, Any]:
    return {**asdict(one), "digests": list(one.digests), "aliases": list(one.aliases)}


def _node(lineage: Lineage, node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "stage": str(node.stage),
        "title": node.title,
        "status": node.status,
        "on_path": node.id in lineage.path,
        "facts": dict(node.facts),
        "gap": node.gap,
        "records": {
            "total": node.records,
            "unsealed": node.unsealed,
            "faults": node.faults,
            "read": [asdict(one) for one in node.evidence],
        },
    }
