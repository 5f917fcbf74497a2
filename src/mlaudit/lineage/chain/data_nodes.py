"""The data a model was trained and evaluated on: nodes of the stage ``data``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import DATA_EXPORTED, DATA_MODIFIED, DATA_READ, ML_TRAINING_EVALUATED
from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.found import (
    DATA_DIGEST,
    DATA_NAME,
    DATA_URI,
    DIGEST,
    PARENT_ID,
    RUN_ID,
    TARGET_DIGEST,
    family,
)
from mlaudit.lineage.chain.format import short
from mlaudit.lineage.chain.nodes import NAMED, SEEN, Edge, Node, Stage
from mlaudit.lineage.chain.run_nodes import evidence, run_id, who

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlaudit.lineage.ask.found import Found
    from mlaudit.lineage.ask.trail import Record

_TEXTS: Final = {
    "name": DATA_NAME,
    "uri": DATA_URI,
    "format": "ml.dataset.format",
    "digest": DATA_DIGEST,
    "target_digest": TARGET_DIGEST,
    "purpose": "ml.dataset.purpose",
    "database": "db.namespace",
    "collection": "db.collection.name",
}
_NUMBERS: Final = {"rows": "ml.dataset.rows", "columns": "ml.dataset.columns", "bytes": "ml.dataset.bytes"}
_VERBS: Final = {DATA_READ: "reads", DATA_MODIFIED: "writes", DATA_EXPORTED: "exports"}


@dataclass(slots=True)
class _Set:
    """A data set under construction."""

    given: list[Record] = field(default_factory=list)
    touched: list[Record] = field(default_factory=list)
    edges: set[tuple[str, str, bool]] = field(default_factory=set)


def data_nodes(found: Found, metrics: Mapping[str, Iterable[str]]) -> tuple[list[Node], list[Edge]]:
    """The data sets, with the runs and evaluations that used each.

    Args:
        found: see ``trace``.
        metrics: ids of metric nodes, by the id of each record behind them.
    """
    sets: dict[str, _Set] = defaultdict(_Set)
    above, below = family(found)
    ours = above | below
    for record in found.of((*kinds.RUNS, ML_TRAINING_EVALUATED)):
        key = _key(record)
        if not key:
            continue
        if record.kind == ML_TRAINING_EVALUATED:
            sets[key].given.append(record)
            sets[key].edges |= {(node, "measured_on", True) for node in metrics.get(record.id, ())}
        elif record.text(RUN_ID) in ours:
            sets[key].given.append(record)
            sets[key].edges.add((run_id(record.text(RUN_ID)), "trained_on", True))
    places = _places(sets)
    runs = sorted(found.runs)
    for record in found.of(kinds.DATA):
        key = _key(record)
        if key not in sets:
            key = places.get(record.text(DATA_URI)) or places.get(record.text(DATA_NAME)) or key
        if not key:
            continue
        run = record.text(RUN_ID)
        if key not in sets and run in ours:
            sets[key].edges.add((run_id(run), "read_in", True))
        elif key not in sets or (record.id in found.nearby and not sets[key].given):
            sets[key].edges |= {(run_id(one), "read_before", False) for one in runs}
        sets[key].touched.append(record)
    nodes = [_node(key, one) for key, one in sorted(sets.items())]
    edges = [Edge(_id(key), *edge) for key, one in sorted(sets.items()) for edge in sorted(one.edges)]
    return nodes, edges


def _key(record: Record) -> str:
    """The identity of a data set: its digest, else its place, else its name."""
    if digest := record.text(DATA_DIGEST):
        return f"sha256/{digest}"
    place = record.text(DATA_URI) or record.text(DATA_NAME)
    return f"place/{place}" if place else ""


def _id(key: str) -> str:
    return f"data/{key}"


def _places(sets: Mapping[str, _Set]) -> dict[str, str]:
    """The data set that a place or name refers to; ambiguous ones are left out."""
    keys: dict[str, set[str]] = defaultdict(set)
    for key, one in sets.items():
        for record in one.given:
            for name in (DATA_URI, DATA_NAME):
                if value := record.text(name):
                    keys[value].add(key)
    return {place: next(iter(found)) for place, found in keys.items() if len(found) == 1}


def _node(key: str, one: _Set) -> Node:
    facts: dict[str, Any] = {}
    for record in (*one.touched, *one.given):
        for name, source in _TEXTS.items():
            if value := record.text(source):
                facts[name] = value
        for name, source in _NUMBERS.items():
            if (number := record.number(source)) is not None:
                facts[name] = number
    for kind, verb in _VERBS.items():
        touched = [record for record in one.touched if record.kind == kind]
        if touched:
            last = touched[-1]
            facts[verb] = len(touched)
            facts[f"last_{verb.removesuffix('s')}"] = {
                "time": last.time,
                "operation": last.text("ml.dataset.operation"),
                **who(last),
            }
    title = facts.get("name") or facts.get("uri") or facts.get("collection") or "data without a name"
    status, gap = SEEN, ""
    if not one.touched:
        status = NAMED
        what = f"the data {short(facts['digest'])}" if "digest" in facts else title
        users = {record.text(RUN_ID) or record.text(PARENT_ID) or record.text(DIGEST) for record in one.given}
        gap = f"{_who(sorted(users - {''}))} names {what}, but no record of a read or write of it was found"
    return Node(_id(key), Stage.DATA, title, status, facts, gap=gap, **evidence([*one.given, *one.touched]))


def _who(users: list[str]) -> str:
    if not users:
        return "an evaluation"
    return f"run {users[0]}" if len(users) == 1 else f"each of {len(users)} runs"
