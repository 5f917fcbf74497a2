"""What a cell of the matrix is, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fault.matrix.ground import Ground


@dataclass
class Outcome:
    """What a fault cost.

    Attributes:
        emitted: calls of the audited processes that are known to have been made.
        acknowledged: of these, those that have returned with the promise kept.
        stored: records of these calls in Elasticsearch after everything was healed and drained.
        lost: acknowledged but not stored.
        duplicates: records, or documents, that are stored more than once.
        verify: ``holds`` or ``N findings: codes``.
        notes: what else was measured.
        expected_findings: codes that verify must name, and no others.
        expected_lost: how many acknowledged records this fault may cost, where it may cost any.
        expectation: what is required, when it is more than nothing lost and nothing twice.
        faults: other requirements that did not hold, as sentences.
    """

    emitted: int
    acknowledged: int
    stored: int
    lost: int
    duplicates: int
    verify: str
    notes: dict[str, Any] = field(default_factory=dict)
    expected_findings: tuple[str, ...] = ()
    expected_lost: int = 0
    expectation: str = ""
    faults: list[str] = field(default_factory=list)

    def require(self, holds: bool, sentence: str) -> None:
        """Notes a fault unless ``holds``; ``sentence`` says expected and found."""
        if not holds:
            self.faults.append(sentence)

    def judge(self, least: int) -> list[str]:
        """What does not hold; ``least`` is how many records must have been acknowledged."""
        faults = list(self.faults)
        if self.acknowledged < least:
            faults.append(f"expected at least {least} acknowledged records, found {self.acknowledged}")
        if self.lost > self.expected_lost:
            faults.append(f"expected at most {self.expected_lost} lost records, found {self.lost}")
        if self.duplicates:
            faults.append(f"expected no duplicates, found {self.duplicates}")
        found = codes_of(self.verify)
        if found != set(self.expected_findings):
            wanted = ", ".join(sorted(self.expected_findings)) or "a trail that holds"
            faults.append(f"expected from verify: {wanted}; found {self.verify}")
        return faults


@dataclass(frozen=True)
class Cell:
    """One fault.

    Attributes:
        what: one sentence for the documentation.
        run: injects the fault and judges it.
        records: how many records at least are acknowledged at full size.
        minutes: estimate at full size.
    """

    name: str
    what: str
    run: Callable[[Ground], Outcome]
    records: int = 20_000
    minutes: float = 0.5
    group: str = ""


def codes_of(verify: str) -> set[str]:
    """The codes in ``N findings: code, code``; empty when it holds."""
    if verify == "holds":
        return set()
    _, found, codes = verify.partition(":")
    return {code.strip() for code in codes.split(",")} if found else {verify}
