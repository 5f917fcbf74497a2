"""The lineage of a model: a graph of what the trail records, and of what its records only name."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.lineage.ask.reference import Chosen
    from mlaudit.lineage.ask.trail import Record


class Stage(StrEnum):
    """The stages of the chain, in order."""

    DATA = "data"
    RUN = "run"
    METRICS = "metrics"
    APPROVAL = "approval"
    ARTIFACT = "artifact"
    DEPLOYMENT = "deployment"
    PREDICTIONS = "predictions"


#: Titles of the stages.
TITLES: Final[Mapping[Stage, str]] = {
    Stage.DATA: "data set",
    Stage.RUN: "run",
    Stage.METRICS: "metrics",
    Stage.APPROVAL: "approval",
    Stage.ARTIFACT: "artifact",
    Stage.DEPLOYMENT: "deployment",
    Stage.PREDICTIONS: "predictions",
}

SEEN: Final = "seen"
NAMED: Final = "named"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A record behind a node; see ``trail.Record`` for the fields."""

    record_id: str
    kind: str
    time: str
    stream_id: str
    sequence: int
    sealed: bool
    fault: str

    @classmethod
    def of(cls, record: Record) -> Evidence:
        """The evidence that a record gives."""
        return cls(
            record.id,
            record.kind,
            record.time,
            record.stream_id,
            record.sequence,
            record.sealed,
            record.fault,
        )


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the chain.

    Attributes:
        id: stable for the same object across runs.
        stage: its stage of the chain.
        title: its display name.
        status: ``seen``: it has records of its own; ``named``: other records name it, and it has none of its own.
        facts: known properties, by stable names (``docs/lineage.md``); no nulls.
        evidence: records behind it, oldest first; truncated when there are many.
        records: how many records are behind it.
        unsealed: how many of them no process sealed.
        gap: what is missing, as a sentence; "" where nothing is.
    """

    id: str
    stage: Stage
    title: str
    status: str = SEEN
    facts: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    records: int = 0
    unsealed: int = 0
    gap: str = ""

    @property
    def faults(self) -> int:
        """Number of evidence records that differ from their originals."""
        return sum(bool(one.fault) for one in self.evidence)


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """A directed edge from cause to consequence.

    ``proven`` edges rest on an identifier or digest that both ends carry; the others on circumstance, which ``kind``
    names.
    """

    source: str
    target: str
    kind: str
    proven: bool = True


@dataclass(frozen=True, slots=True)
class Gap:
    """A link that the chain should have and that was not found; ``node`` is empty for a whole stage."""

    stage: Stage
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """The lineage of one version of a model. Nodes and edges are in a fixed order.

    Attributes:
        chosen: the version, and the other versions.
        digests: SHA-256 of its artifacts.
        path: ids of the nodes on the chain; the others are beside it (trials that did not win).
        more_runs: number of child runs without a node, by run id.
        streams: number of evidence records, by stream id.
        notes: further remarks.
    """

    chosen: Chosen
    digests: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    gaps: tuple[Gap, ...]
    path: frozenset[str]
    more_runs: Mapping[str, int]
    streams: Mapping[str, int]
    notes: tuple[str, ...] = ()
    since: str = ""
    until: str = ""

    @property
    def label(self) -> str:
        """The model and its version, ``name:version``."""
        return f"{self.chosen.name}:{self.chosen.version}" if self.chosen.version else self.chosen.name

    def of(self, stage: Stage) -> list[Node]:
        """The nodes of a stage."""
        return [node for node in self.nodes if node.stage is stage]

    @property
    def held(self) -> dict[str, Evidence]:
        """The records that were read, by their id."""
        return {one.record_id: one for node in self.nodes for one in node.evidence}

    @property
    def counted(self) -> int:
        """How many records were counted without being read."""
        return sum(node.records - len(node.evidence) for node in self.nodes)

    @property
    def unsealed(self) -> int:
        """How many records, read or counted, no process sealed."""
        counted = sum(node.unsealed - sum(not one.sealed for one in node.evidence) for node in self.nodes)
        return counted + sum(not one.sealed for one in self.held.values())

    @property
    def faults(self) -> int:
        """Number of records that differ from their originals."""
        return sum(bool(one.fault) for one in self.held.values())
