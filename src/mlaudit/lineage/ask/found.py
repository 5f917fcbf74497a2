"""The records found for one version of a model, and the fields that matched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mlaudit.lineage.ask import kinds
from mlaudit.lineage.ask.trail import Tallies

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mlaudit.lineage.ask.reference import Chosen
    from mlaudit.lineage.ask.trail import Record

RUN_ID: Final = "ml.training.run_id"
PARENT_ID: Final = "ml.training.parent_run_id"
NAME: Final = "ml.model.name"
VERSION: Final = "ml.model.version"
DIGEST: Final = "ml.model.digest"
DATA_DIGEST: Final = "ml.dataset.digest"
TARGET_DIGEST: Final = "ml.dataset.target.digest"
DATA_NAME: Final = "ml.dataset.name"
DATA_URI: Final = "ml.dataset.uri"
STREAM: Final = "audit.sequence.stream_id"
SEQUENCE: Final = "audit.sequence.number"


@dataclass(slots=True)
class Found:
    """Everything that was found of one version; ``graph.build`` makes the chain of it.

    Attributes:
        chosen: whose lineage it is.
        records: by their id.
        digests: SHA-256 of the version's artifacts.
        identities: further names and versions under which an artifact with one of the digests was saved or registered.
        runs: the runs that records of the artifact name as their origin.
        children: by run: how many runs name it as their parent.
        nearby: ids of reads linked only by circumstance: the same process, before the run ended.
        loads, predictions: counted by service.
        notes: limits that were reached.
    """

    chosen: Chosen
    records: dict[str, Record] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    identities: set[tuple[str, str]] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    children: dict[str, int] = field(default_factory=dict)
    nearby: set[str] = field(default_factory=set)
    loads: Tallies = field(default_factory=Tallies)
    predictions: Tallies = field(default_factory=Tallies)
    notes: list[str] = field(default_factory=list)
    since: str = ""
    until: str = ""

    def of(self, among: Collection[str]) -> list[Record]:
        """The records of some kinds, oldest first."""
        return sorted(
            (record for record in self.records.values() if record.kind in among),
            key=lambda record: (record.time, record.id),
        )


def is_ours(found: Found, record: Record) -> bool:
    """Whether a record is about the version, rather than naming it as the one before."""
    if digest := record.text(DIGEST):
        return digest in found.digests
    named = (record.text(NAME), record.text(VERSION))
    return named == (found.chosen.name, found.chosen.version) or named in found.identities


def family(found: Found) -> tuple[set[str], set[str]]:
    """The runs that made it, with their ancestors and descendants."""
    parents: dict[str, set[str]] = {}
    children: dict[str, set[str]] = {}
    for record in found.of(kinds.RUNS):
        run, parent = record.text(RUN_ID), record.text(PARENT_ID)
        if run and parent and run != parent:
            parents.setdefault(run, set()).add(parent)
            children.setdefault(parent, set()).add(run)
    return closure(found.runs, parents), closure(found.runs, children)


def closure(begin: Iterable[str], links: dict[str, set[str]]) -> set[str]:
    """The transitive closure."""
    reached: set[str] = set()
    pending = list(begin)
    while pending:
        if (one := pending.pop()) not in reached:
            reached.add(one)
            pending += links.get(one, ())
    return reached
