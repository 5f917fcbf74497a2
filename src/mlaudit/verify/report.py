"""The result of a verification."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlaudit.verify.proof.finding_codes import Finding
    from mlaudit.verify.proof.summary import StreamSummary


@dataclass(slots=True)
class Report:
    """What was checked and what was found.

    Attributes:
        source: name of the source.
        records: how many records were read.
        unsealed: number of documents that the collector made itself; they belong to no stream and are not proven.
        findings: all findings, including those for information only.
        suppressed: findings beyond the limit of one stream, counted but not kept.
        not_checked: what was not checked, as sentences.
        keys: the trusted verifier keys.
        signatures: False when signatures were not checked.
        window: ``since``, ``until`` and ``stream`` as requested.
        times: what time-stamps prove: file, stream, sequence and time of each.
    """

    source: str
    records: int
    streams: list[StreamSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    suppressed: int = 0
    not_checked: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    signatures: bool = True
    window: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    times: list[dict[str, str | int]] = field(default_factory=list)
    unsealed: int = 0

    def add_known(
        self, findings: list[Finding], times: list[dict[str, str | int]], not_checked: list[str]
    ) -> None:
        """Adds the findings about checkpoints from outside the source."""
        self.findings.extend(findings)
        self.times.extend(times)
        self.not_checked.extend(not_checked)

    @property
    def ok(self) -> bool:
        """Whether everything that was checked holds."""
        return not self.suppressed and all(found.severity == "information" for found in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "ok": self.ok,
            "source": self.source,
            "records": self.records,
            "unsealed": self.unsealed,
            "streams": [stream.to_dict() for stream in self.streams],
            "findings": [found.to_dict() for found in self.findings],
            "counts": dict(sorted(Counter(found.code for found in self.findings).items())),
            "suppressed": self.suppressed,
            "not_checked": self.not_checked,
            "signatures": "checked" if self.signatures else "not checked",
            "keys": self.keys,
            "window": self.window,
            "times": self.times,
            "seconds": round(self.seconds, 3),
        }
