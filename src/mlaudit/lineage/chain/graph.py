"""Builds the chain from the records found; the order of the records does not matter."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import ML_MODEL_DELETED
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.found import DIGEST, NAME, RUN_ID, VERSION, is_ours
from mlaudit.lineage.chain.data_nodes import data_nodes
from mlaudit.lineage.chain.nodes import NAMED, SEEN, Edge, Gap, Lineage, Node, Stage
from mlaudit.lineage.chain.run_nodes import evidence, metric_nodes, run_id, run_nodes, who
from mlaudit.lineage.chain.uses import approval_nodes, deployment_nodes, prediction_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlaudit.lineage.ask.found import Found
    from mlaudit.lineage.ask.trail import Record

_TEXTS: Final = {
    "path": "ml.model.path",
    "model_class": "ml.model.class",
    "library": "ml.model.library",
    "library_version": "ml.model.library_version",
    "registry": "ml.registry.name",
    "previous_version": "ml.model.previous.version",
    "previous_digest": "ml.model.previous.digest",
    "run_id": RUN_ID,
}
_EMPTY: Final[Mapping[Stage, str]] = {
    Stage.DATA: "no record names the data it was trained on",
    Stage.RUN: "no record names the run that made it",
    Stage.METRICS: "no metrics and no evaluation were recorded",
    Stage.APPROVAL: "no promotion, ticket or approver was recorded",
    Stage.DEPLOYMENT: "no record of a load or deployment was found",
    Stage.PREDICTIONS: "no prediction was recorded",
}


def build(found: Found) -> Lineage:
    """The lineage built from the result of ``trace``."""
    artifacts, artifact_edges = _artifacts(found)
    of_artifact = _artifact_of(artifacts)
    runs, run_edges, path = run_nodes(found)
    metrics, metric_edges = metric_nodes(found, runs)
    by_record: dict[str, list[str]] = defaultdict(list)
    for node in metrics:
        for one in node.evidence:
            by_record[one.record_id].append(node.id)
    data, data_edges = data_nodes(found, by_record)
    approvals, approval_edges = approval_nodes(found, of_artifact)
    deployments, deployment_edges = deployment_nodes(found, of_artifact)
    predictions, prediction_edges = prediction_nodes(found, deployments)
    nodes = [*data, *runs, *metrics, *approvals, *artifacts, *deployments, *predictions]
    edges = {
        *data_edges, *run_edges, *metric_edges, *approval_edges, *artifact_edges, *deployment_edges,
        *prediction_edges,
    }  # fmt: skip
    known = {node.id for node in nodes}
    nodes.sort(key=_order)
    beside = {node.id for node in runs} - path
    return Lineage(
        chosen=found.chosen,
        digests=tuple(sorted(found.digests)),
        nodes=tuple(nodes),
        edges=tuple(sorted(edge for edge in edges if edge.source in known and edge.target in known)),
        gaps=tuple(_gaps(nodes, beside)),
        path=frozenset(known - beside),
        more_runs=_more_runs(found, run_edges),
        streams=_streams(nodes),
        notes=tuple(_notes(found, artifacts)),
        since=found.since,
        until=found.until,
    )


_STAGES: Final = list(Stage)


def _order(node: Node) -> tuple[Any, ...]:
    first = node.evidence[0] if node.evidence else None
    return _STAGES.index(node.stage), first is None, first.time if first else "", node.id


def _artifacts(found: Found) -> tuple[list[Node], list[Edge]]:
    """One node for each digest; an artifact without a digest is identified by name and version."""
    groups: dict[str, list[Record]] = {digest: [] for digest in found.digests}
    loose: list[Record] = []
    for record in found.of(kinds.ARTIFACT):
        if not is_ours(found, record):
            continue
        if digest := record.text(DIGEST):
            groups[digest].append(record)
        else:
            loose.append(record)
    if len(groups) == 1:
        next(iter(groups.values())).extend(loose)
    elif loose or not groups:
        groups[""] = loose
    nodes, edges = [], set()
    for digest, records in sorted(groups.items()):
        node = _artifact(found, digest, records)
        nodes.append(node)
        edges |= {
            Edge(run_id(record.text(RUN_ID)), node.id, "made")
            for record in records
            if record.kind in kinds.MADE and record.text(RUN_ID)
        }
    deployed = [record for record in found.of(kinds.DEPLOYMENTS) if is_ours(found, record)]
    of = _artifact_of(nodes)
    edges |= {
        Edge(run_id(record.text(RUN_ID)), of(record), "made") for record in deployed if record.text(RUN_ID)
    }
    return nodes, sorted(edges)


def _artifact(found: Found, digest: str, records: Sequence[Record]) -> Node:
    chosen = found.chosen
    facts: dict[str, Any] = {"name": chosen.name, "version": chosen.version, "digest": digest}
    ordered = sorted(records, key=lambda record: (record.time, record.id))
    made = [record for record in ordered if record.kind in kinds.MADE and record.succeeded]
    for record in made:
        facts |= {name: value for name, field in _TEXTS.items() if (value := record.text(field))}
        if size := record.mapping("labels").get("bytes"):
            facts["bytes"] = size
    if made:
        facts |= {"made": made[0].time, **who(made[0])}
    named = {(record.text(NAME), record.text(VERSION)) for record in made}
    others = {
        f"{name}:{version}" if version else name
        for name, version in named
        if (name, version) != (chosen.name, chosen.version)
    }
    deleted = [record for record in ordered if record.kind == ML_MODEL_DELETED and record.succeeded]
    facts |= {"also": sorted(others), "deleted": deleted[-1].time if deleted else ""}
    status, gap = (
        (SEEN, "") if made else (NAMED, "it is named, but no record of a save or registration was found")
    )
    facts = {name: value for name, value in facts.items() if value not in ("", [])}
    title = f"{chosen.name}:{chosen.version}" if chosen.version else chosen.name
    identity = f"artifact/{digest}" if digest else f"artifact/{title}"
    return Node(identity, Stage.ARTIFACT, title, status, facts, gap=gap, **evidence(records))


def _artifact_of(artifacts: Sequence[Node]) -> Any:
    known = {node.id for node in artifacts}

    def find(record: Record) -> str:
        own = f"artifact/{record.text(DIGEST)}"
        return own if own in known else artifacts[0].id

    return find


def _gaps(nodes: Sequence[Node], beside: set[str]) -> Iterable[Gap]:
    for stage in Stage:
        own = [node for node in nodes if node.stage is stage]
        if not own:
            yield Gap(stage, "", _EMPTY[stage])
        for node in own:
            # Nodes beside the chain leave no gap in it.
            if node.gap and node.id not in beside:
                yield Gap(stage, node.id, node.gap)


def _more_runs(found: Found, edges: Iterable[Edge]) -> dict[str, int]:
    shown = Counter(edge.source for edge in edges)
    more = {run_id(parent): count - shown[run_id(parent)] for parent, count in found.children.items()}
    return {parent: count for parent, count in sorted(more.items()) if count > 0}


def _streams(nodes: Iterable[Node]) -> dict[str, int]:
    held = {(one.stream_id, one.record_id) for node in nodes for one in node.evidence if one.stream_id}
    return dict(sorted(Counter(stream for stream, _ in held).items()))


def _notes(found: Found, artifacts: Sequence[Node]) -> Iterable[str]:
    by_digest = [node for node in artifacts if node.facts.get("digest")]
    if len(by_digest) > 1:
        yield (
            f"{len(by_digest)} different artifacts are called {by_digest[0].title}; all of them are shown "
            f"({found.chosen.name}:DIGEST selects one)"
        )
    yield from found.notes
    for what, tallies in (("loads", found.loads), ("predictions", found.predictions)):
        if tallies.beyond:
            yield f"{tallies.beyond:,} more {what} in further services are not shown"
