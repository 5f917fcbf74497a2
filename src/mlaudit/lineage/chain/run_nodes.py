"""The runs that made a model, and their metrics: nodes of the stages ``run`` and ``metrics``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import ML_TRAINING_EVALUATED, ML_TRAINING_FAILED, ML_TUNING_TRIAL
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.found import DATA_DIGEST, DIGEST, NAME, PARENT_ID, RUN_ID, family
from mlaudit.lineage.chain.nodes import NAMED, Edge, Evidence, Node, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlaudit.lineage.ask.found import Found
    from mlaudit.lineage.ask.trail import Record

#: Stable names of facts, and their source fields.
_TEXTS: Final = {
    "method": "ml.training.method",
    "parent_run_id": PARENT_ID,
    "model_class": "ml.model.class",
    "library": "ml.model.library",
    "library_version": "ml.model.library_version",
    "experiment": "ml.experiment.name",
    "experiment_id": "ml.experiment.id",
    "dataset_digest": DATA_DIGEST,
    "target_digest": "ml.dataset.target.digest",
    "error_type": "error.type",
    "actor": "audit.actor.id",
    "service": "service.name",
    "host": "host.name",
}
_NUMBERS: Final = {
    "duration_ns": "ml.training.duration",
    "trial_number": "ml.training.trial.number",
    "candidates": "ml.training.candidates",
    "best_score": "ml.training.best_score",
}
_MAPPINGS: Final = {
    "parameters": "ml.training.parameters",
    "best_parameters": "ml.training.best_parameters",
    "metrics": "ml.training.metrics",
}


def evidence(records: Iterable[Record]) -> dict[str, Any]:
    """These records as the evidence arguments of a node."""
    ordered = sorted(records, key=lambda record: (record.time, record.id))
    return {
        "evidence": tuple(Evidence.of(record) for record in ordered),
        "records": len(ordered),
        "unsealed": sum(not record.sealed for record in ordered),
    }


def who(record: Record) -> dict[str, str]:
    """Facts about the actor and the place."""
    facts = {name: record.text(_TEXTS[name]) for name in ("actor", "service", "host")}
    return {name: value for name, value in facts.items() if value}


def run_id(identity: str) -> str:
    """Id of a run's node."""
    return f"run/{identity}"


def run_nodes(found: Found) -> tuple[list[Node], list[Edge], frozenset[str]]:
    """The runs, their parent-child edges, and the ids of those on the chain."""
    by_run: dict[str, list[Record]] = defaultdict(list)
    for record in found.of(kinds.RUNS):
        if identity := record.text(RUN_ID):
            by_run[identity].append(record)
    above, below = family(found)
    # A parent that is only named is a node too, unless only a run beside the chain names it.
    named = {
        parent
        for identity in above | below
        for record in by_run.get(identity, ())
        if (parent := record.text(PARENT_ID))
    }
    edges = []
    for identity, records in by_run.items():
        parents = {record.text(PARENT_ID) for record in records} - {"", identity}
        edges += [Edge(run_id(parent), run_id(identity), "part_of") for parent in parents]
    nodes = [_run(identity, by_run.get(identity, [])) for identity in by_run.keys() | found.runs | named]
    known = {node.id for node in nodes}
    path = frozenset(run_id(identity) for identity in above)
    return nodes, [edge for edge in edges if edge.source in known], path


def _run(identity: str, records: Sequence[Record]) -> Node:
    if not records:
        gap = f"run {identity} is named, but no record of it was found"
        return Node(run_id(identity), Stage.RUN, "run", NAMED, {"run_id": identity}, gap=gap)
    facts: dict[str, Any] = {"run_id": identity}
    for record in records:  # a later record has more
        facts |= {name: text for name, field in _TEXTS.items() if (text := record.text(field))}
        facts |= {
            name: value for name, field in _NUMBERS.items() if (value := record.number(field)) is not None
        }
        facts |= {name: values for name, field in _MAPPINGS.items() if (values := record.mapping(field))}
    starts = [record for record in records if record.kind in kinds.RUN_STARTS]
    ends = [record for record in records if record.kind in kinds.RUN_ENDS]
    if starts:
        facts["started"] = starts[0].time
    gap = ""
    if ends:
        facts["ended"] = ends[-1].time
        facts["state"] = _state(ends[-1])
    else:
        facts["state"] = "started"
        gap = f"run {identity} started, but no record of its end was found"
    return Node(run_id(identity), Stage.RUN, _title(facts), facts=facts, gap=gap, **evidence(records))


def _state(end: Record) -> str:
    if end.kind == ML_TUNING_TRIAL:
        return end.text("ml.training.trial.state") or ("complete" if end.succeeded else "failed")
    return "failed" if end.kind == ML_TRAINING_FAILED or not end.succeeded else "completed"


def _title(facts: dict[str, Any]) -> str:
    method = facts.get("method", "run")
    if "trial_number" in facts:
        return f"trial {facts['trial_number']}"
    if method in ("study", "run") and "experiment" in facts:
        return f"{method} {facts['experiment']}"
    short = facts.get("model_class", "").rpartition(".")[2]
    return f"{method} {short}".rstrip()


def metric_nodes(found: Found, runs: Iterable[Node]) -> tuple[list[Node], list[Edge]]:
    """Metrics of the runs on the chain, and every evaluation; repeated ones share a node."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    above, below = family(found)
    ours = {run_id(identity) for identity in above | below}
    for run in runs:
        facts = {name: run.facts[name] for name in ("metrics", "best_score") if name in run.facts}
        if run.id in ours and facts:
            identity = run.facts["run_id"]
            facts |= {
                "run_id": identity,
                "method": run.facts.get("method", "run"),
                "time": run.facts.get("ended", ""),
            }
            ends = [one for one in run.evidence if one.kind in kinds.RUN_ENDS] or run.evidence
            unsealed = sum(not one.sealed for one in ends)
            node = Node(
                f"metrics/{run.id}", Stage.METRICS, f"of {run.title}", facts=facts, evidence=tuple(ends),
                records=len(ends), unsealed=unsealed,
            )  # fmt: skip
            nodes.append(node)
            edges.append(Edge(run.id, node.id, "measured"))
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in found.of((ML_TRAINING_EVALUATED,)):
        owner = record.text(RUN_ID) or record.text(PARENT_ID)
        digest = record.text(DIGEST)
        groups[(owner, digest, record.text(DATA_DIGEST), record.text("ml.training.method"))].append(record)
    for (owner, digest, data, method), records in sorted(groups.items()):
        node = _evaluation(owner, digest, data, method, records)
        nodes.append(node)
        if owner:
            edges.append(Edge(run_id(owner), node.id, "measured"))
        if digest in found.digests:
            edges.append(Edge(node.id, f"artifact/{digest}", "measured"))
    return nodes, edges


def _evaluation(run: str, digest: str, data: str, method: str, records: Sequence[Record]) -> Node:
    last = records[-1]
    values: dict[str, set[str]] = defaultdict(set)
    metrics: dict[str, Any] = {}
    for record in records:
        if record.succeeded:
            metrics |= record.mapping("ml.training.metrics")
            for name, value in record.mapping("ml.training.metrics").items():
                values[name].add(str(value))
    facts: dict[str, Any] = {
        "method": method,
        "metrics": metrics,
        "evaluations": len(records),
        "failed": sum(not record.succeeded for record in records),
        "varying": sorted(name for name, found in values.items() if len(found) > 1),
        "run_id": run,
        "model_digest": digest,
        "dataset_digest": data,
        "model": last.text(NAME),
        "time": last.time,
        **who(last),
    }
    rows = last.number("ml.dataset.rows")
    facts = {name: value for name, value in facts.items() if value not in ("", 0, [], {})}
    if rows is not None:
        facts["rows"] = rows
    identity = "/".join(("metrics", run or digest or "model", data[:16] or "data", method or "evaluation"))
    return Node(identity, Stage.METRICS, method or "evaluation", facts=facts, **evidence(records))
