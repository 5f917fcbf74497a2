"""Approvals, deployments and predictions of a version: nodes of the last stages."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import ML_DEPLOYMENT_ENDED, ML_DEPLOYMENT_REPLACED, ML_MODEL_PROMOTED
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.found import DIGEST, NAME, VERSION, is_ours
from mlaudit.lineage.chain.format import counted
from mlaudit.lineage.chain.nodes import NAMED, SEEN, Edge, Node, Stage
from mlaudit.lineage.chain.run_nodes import evidence, who

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlaudit.lineage.ask.found import Found
    from mlaudit.lineage.ask.trail import Record, Tally

_CHANGE: Final = {"ticket": "ml.change.ticket", "approver": "ml.change.approver"}


def approval_nodes(found: Found, artifact: Callable[[Record], str]) -> tuple[list[Node], list[Edge]]:
    """Aliases and stages that the version gained or lost, and the changes that deployed it."""
    nodes: list[Node] = []
    edges: set[Edge] = set()
    promotions: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in found.of((ML_MODEL_PROMOTED,)):
        if is_ours(found, record):
            key = (record.text("ml.registry.alias"), record.text(NAME), record.text(VERSION))
            promotions[key].append(record)
    for (alias, name, version), records in sorted(promotions.items()):
        facts = _promotion(found, alias, name, version, records)
        node = Node(f"approval/{name}:{version}@{alias}", Stage.APPROVAL, alias or "promotion", facts=facts,
                    **evidence(records))  # fmt: skip
        nodes.append(node)
        edges |= {Edge(node.id, artifact(record), "approved") for record in records}
    stated = {
        record.text("ml.change.ticket")
        for records in promotions.values()
        for record in records
        if record.succeeded
    }
    changes: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in found.of((*kinds.DEPLOYMENTS, *kinds.ARTIFACT)):
        ticket, approver = record.text("ml.change.ticket"), record.text("ml.change.approver")
        if (ticket or approver) and is_ours(found, record) and (not ticket or ticket not in stated):
            changes[ticket, approver].append(record)
    for (ticket, approver), records in sorted(changes.items()):
        facts = {
            "ticket": ticket,
            "approver": approver,
            "stated_at": records[-1].kind,
            "time": records[-1].time,
        }
        facts = {name: value for name, value in facts.items() if value}
        title = f"change {ticket}" if ticket else "change"
        node = Node(
            f"approval/change/{ticket}/{approver}", Stage.APPROVAL, title, facts=facts, **evidence(records)
        )
        nodes.append(node)
        edges |= {Edge(node.id, artifact(record), "approved") for record in records}
    return nodes, sorted(edges)


def _promotion(found: Found, alias: str, name: str, version: str, records: list[Record]) -> dict[str, Any]:
    history = []
    for record in records:
        step: dict[str, Any] = {
            "time": record.time,
            "actor": record.text("audit.actor.id"),
            "before": record.text("ml.registry.before"),
            "after": record.text("ml.registry.after"),
            "outcome": record.text("event.outcome"),
            **{fact: record.text(field) for fact, field in _CHANGE.items()},
        }
        if isinstance(within := record.fields.get("ml.change.in_window"), bool):
            step["in_window"] = within
        history.append({key: value for key, value in step.items() if value != ""})
    last = next((record for record in reversed(records) if record.succeeded), None)
    if last is None:
        state = "refused"
    elif not last.text("ml.registry.after"):
        state = "removed"
    elif name == found.chosen.name:
        own = next((one for one in found.chosen.versions if one.version == version), None)
        state = "current" if own is not None and alias in own.aliases else "past"
    else:
        state = "given"
    facts = {
        "alias": alias,
        "state": state,
        "registry": records[-1].text("ml.registry.name"),
        "model": name,
        "version": version,
        "history": history,
    }
    return {key: value for key, value in facts.items() if value}


def deployment_nodes(found: Found, artifact: Callable[[Record], str]) -> tuple[list[Node], list[Edge]]:
    """Where it was served: deployment records of services, else loads, else predictions."""
    by_deployment: dict[str, list[Record]] = defaultdict(list)
    for record in found.of(kinds.DEPLOYMENTS):
        service = record.text("service.name")
        by_deployment[record.text("ml.deployment.id") or f"{service}/{record.text(NAME)}"].append(record)
    loads = {tally.service: tally for tally in found.loads.by_service}
    nodes: list[Node] = []
    edges: set[Edge] = set()
    covered: set[str] = set()
    for identity, records in sorted(by_deployment.items()):
        ours = [record for record in records if is_ours(found, record)]
        service = records[-1].text("service.name")
        facts = _deployment(found, identity, records) | _loads(loads.get(service))
        covered.add(service)
        node = Node(f"deployment/{identity}", Stage.DEPLOYMENT, service or identity, facts=facts,
                    **_with(records, loads.get(service)))  # fmt: skip
        nodes.append(node)
        edges |= {Edge(artifact(record), node.id, "deployed") for record in ours or records}
    for service, tally in sorted(loads.items()):
        if service in covered:
            continue
        covered.add(service)
        facts = {"service": service, "state": "loaded", **_loads(tally)}
        node = Node(
            f"deployment/{service}",
            Stage.DEPLOYMENT,
            service or "(no service)",
            facts=facts,
            **_with([], tally),
        )
        nodes.append(node)
        edges.add(Edge(artifact(tally.last), node.id, "loaded"))
    for tally in found.predictions.by_service:
        if tally.service in covered:
            continue
        gap = (
            f"{tally.service or 'a service without a name'} predicted with it, but no record of a load or "
            "deployment there was found"
        )
        facts = {"service": tally.service, "state": "unknown"}
        node = Node(
            f"deployment/{tally.service}",
            Stage.DEPLOYMENT,
            tally.service or "(no service)",
            NAMED,
            facts,
            gap=gap,
        )
        nodes.append(node)
        edges.add(Edge(artifact(tally.last), node.id, "answered_with"))
    return nodes, sorted(edges)


def _deployment(found: Found, identity: str, records: list[Record]) -> dict[str, Any]:
    facts: dict[str, Any] = {"deployment_id": identity}
    for record in records:
        if record.kind == ML_DEPLOYMENT_ENDED and is_ours(found, record):
            facts |= {"state": "ended", "until": record.time, "reason": record.text("event.reason")}
        elif record.kind == ML_DEPLOYMENT_REPLACED and not is_ours(found, record):
            after = record.text(VERSION) or record.text(DIGEST)
            facts |= {"state": "replaced", "until": record.time, "replaced_by": after, "reason": ""}
        elif not record.succeeded:
            facts.setdefault("state", "failed")
        elif record.kind != ML_DEPLOYMENT_ENDED:
            facts |= {"state": "serving", "since": record.time, "until": "", "reason": "", "replaced_by": ""}
            facts |= {name: record.text(field) for name, field in _CHANGE.items()}
            facts["instead_of"] = record.text("ml.model.previous.version")
        facts |= who(record)
    return {name: value for name, value in facts.items() if value}


def _loads(tally: Tally | None) -> dict[str, Any]:
    if tally is None:
        return {}
    facts: dict[str, Any] = {
        "loads": tally.count,
        "first_load": tally.first.time,
        "last_load": tally.last.time,
        "failed_loads": tally.outcomes.get("failure", 0),
        "registration": tally.last.text("ml.model.registration"),
        "path": tally.last.text("ml.model.path"),
    }
    return {name: value for name, value in facts.items() if value}


def _with(records: Iterable[Record], tally: Tally | None) -> dict[str, Any]:
    """The evidence of records plus the first and last record of a tally; the records between are only counted."""
    held = list(records)
    beyond = unsealed = 0
    if tally is not None:
        ends = {tally.first.id: tally.first, tally.last.id: tally.last}
        held += ends.values()
        beyond = tally.count - len(ends)
        unsealed = tally.unsealed - sum(not record.sealed for record in ends.values())
    arguments = evidence(held)
    arguments["records"] += max(beyond, 0)
    arguments["unsealed"] += max(unsealed, 0)
    return arguments


def prediction_nodes(found: Found, deployments: Iterable[Node]) -> tuple[list[Node], list[Edge]]:
    """Number of predictions, by service."""
    by_service: dict[str, list[str]] = defaultdict(list)
    for node in deployments:
        by_service[node.facts.get("service", "")].append(node.id)
    nodes, edges = [], []
    for tally in sorted(found.predictions.by_service, key=lambda one: one.service):
        facts = {
            "service": tally.service,
            "count": tally.count,
            "outcomes": dict(sorted(tally.outcomes.items())),
            "actors": tally.actors,
            "rows": tally.rows,
            "first": tally.first.time,
            "last": tally.last.time,
        }
        facts = {name: value for name, value in facts.items() if value not in ("", 0)}
        node = Node(f"predictions/{tally.service}", Stage.PREDICTIONS, counted(tally.count, "prediction"), SEEN, facts,
                    **_with([], tally))  # fmt: skip
        nodes.append(node)
        edges += [Edge(source, node.id, "answered") for source in by_service[tally.service]]
    return nodes, edges
