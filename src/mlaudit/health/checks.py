"""The path of a record as a sequence of checks: the first that fails is the broken link; later ones do not run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlaudit.errors import MlauditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mlaudit.policy.evaluate import CompiledPolicy
    from mlaudit.seal.checkpoint import VerifyingKey
    from mlaudit.settings import Settings

OK: Final = "ok"
WARNING: Final = "warning"
BROKEN: Final = "broken"
SKIPPED: Final = "skipped"
NOT_REACHED: Final = "not reached"


class BrokenLinkError(Exception):
    """A check failed: what it expected, what it found, and what to do about it."""

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"expected {expected}, found {found}; {remedy}")
        self.expected = expected
        self.found = found
        self.remedy = remedy


@dataclass(slots=True)
class Outcome:
    """The result of a check that passed. ``warnings`` are findings with their remedy."""

    found: str
    warnings: list[tuple[str, str]] = field(default_factory=list)
    skipped: bool = False

    def warn(self, found: str, remedy: str) -> None:
        """Adds a warning."""
        self.warnings.append((found, remedy))


@dataclass(slots=True)
class Result:
    """One check as reported."""

    step: str
    state: str
    found: str = ""
    expected: str = ""
    remedy: str = ""
    warnings: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class Probe:
    """The probe stream: its id, the probe record's id and hash, and its number of records."""

    stream_id: str
    record_id: str
    hash: str
    records: int


@dataclass(slots=True)
class CheckContext:
    """The input of the checks, and what earlier checks found for later ones.

    Attributes:
        env: the environment; settings and credentials come from it alone.
        elasticsearch: address of the cluster; "" skips the checks after the collector.
        metrics: address of the collector's metrics page; "" when not given.
        wait: seconds that a record may take on each half of the path.
        secrets: texts that are never printed, not even within an error.
    """

    env: Mapping[str, str]
    elasticsearch: str = ""
    ca_file: Path | None = None
    metrics: str = ""
    wait: float = 15.0
    secrets: set[str] = field(default_factory=set)
    settings: Settings | None = None
    policy: CompiledPolicy | None = None
    key: VerifyingKey | None = None
    date: str = ""
    answered_at: float = 0.0
    answer: Any = None
    metrics_before: dict[str, float] = field(default_factory=dict)
    probe: Probe | None = None

    @property
    def known(self) -> Settings:
        """The settings, which the first check has read."""
        assert self.settings is not None
        return self.settings


Check = tuple[str, "Callable[[CheckContext], Outcome]"]


def run_checks(
    checks: Iterable[Check], context: CheckContext, tell: Callable[[Result], object]
) -> list[Result]:
    """Runs checks in order until one fails; reports and returns the result of each."""
    results: list[Result] = []
    broken = False
    for step, check in checks:
        result = Result(step, NOT_REACHED)
        if not broken:
            begun = time.monotonic()
            result = _run(step, check, context)
            result.seconds = round(time.monotonic() - begun, 3)
            broken = result.state == BROKEN
        results.append(result)
        tell(result)
    return results


def _run(step: str, check: Callable[[CheckContext], Outcome], context: CheckContext) -> Result:
    def clean(text: str) -> str:
        for secret in context.secrets:
            text = text.replace(secret, "***")
        return text

    try:
        outcome = check(context)
    except BrokenLinkError as error:
        return Result(step, BROKEN, clean(error.found), clean(error.expected), clean(error.remedy))
    except (MlauditError, OSError) as error:
        return Result(step, BROKEN, clean(str(error)), "this check to finish", "see the value found")
    state = SKIPPED if outcome.skipped else WARNING if outcome.warnings else OK
    warnings = [{"found": clean(found), "remedy": clean(remedy)} for found, remedy in outcome.warnings]
    return Result(step, state, clean(outcome.found), warnings=warnings)
