"""The lineage of a model: a graph of what was seen in the trail, and of what is only named there."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlaudit.lineage.ask.reference import Chosen
    from mlaudit.lineage.ask.trail import Record


class Stage(StrEnum):
    """The links of the chain, in their order."""

    DATA = "data"
    RUN = "run"
    METRICS = "metrics"
    APPROVAL = "approval"
    ARTIFACT = "artifact"
    DEPLOYMENT = "deployment"
    PREDICTIONS = "predictions"


#: What people call the stages.
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
    """A record behind a node; see ``interface.Record`` for the fields."""

    record_id: str
    kind: str
    time: str
    stream_id: str
    sequence: int
    sealed: bool
    fault: str

    @classmethod
    def of(cls, record: Record) -> Evidence:
        """What a record is as evidence."""
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
    """Something in the chain.

    Attributes:
        id: the same for the same thing in every answer.
        stage: where in the chain.
        title: what to call it.
        status: ``seen``: records tell of it; ``named``: other records name it, and none of its own was found.
        facts: what is known of it, by stable names (``docs/lineage.md``); no nulls.
        evidence: records behind it, oldest first; of many not all.
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
        """How many records of the evidence are not what their originals say."""
        return sum(bool(one.fault) for one in self.evidence)


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """From what came first to what followed from it.

    ``proven`` edges rest on an identifier or a digest that both ends carry; the others on circumstance, which ``kind``
    names.
    """

    source: str
    target: str
    kind: str
    proven: bool = True


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the chain should have and that was not found; ``node`` is empty for a whole stage."""

    stage: Stage
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything that is told of one version of a model. Nodes and edges are in a fixed order.

    Attributes:
        chosen: the version, and the others that there are.
        digests: SHA-256 of its artifacts.
        path: ids of the nodes that the chain runs through; the others stand beside it (trials that did not win).
        more_runs: by the id of a run: how many more runs it has than there are nodes for.
        streams: by stream id: how many records of the evidence it holds.
        notes: what else there is to say.
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
        """The model and its version as mlaudit writes them."""
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
        """How many records are not what their originals say."""
        return sum(bool(one.fault) for one in self.held.values())
