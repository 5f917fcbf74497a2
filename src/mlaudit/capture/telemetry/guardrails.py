"""The decision of a guardrail about a call of a generative model, read from other telemetry.

There is no settled convention. Supported are: a decision as a word or a truth value under one of ``DECISIONS``,
the guardrail's name under one of ``NAMES``, both on the span itself or on one of its events, and finish reasons that
providers give when their own filter applied (``FILTERED``). Nothing else of an event is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PASSED: Final = "passed"
BLOCKED: Final = "blocked"
MODIFIED: Final = "modified"
NAMES: Final = (
    "gen_ai.guardian.name",
    "gen_ai.guardrail.name",
    "guardrail.name",
    "rail.name",
    "aws.bedrock.guardrail.id",
)
DECISIONS: Final = (
    "gen_ai.security.decision.type",
    "gen_ai.guardrail.outcome",
    "gen_ai.guardrail.action",
    "guardrail.outcome",
    "guardrail.action",
    "guardrail.triggered",
    "rail.stop",
)
FILTERED: Final = frozenset(
    {"content_filter", "guardrail_intervened", "safety", "prohibited_content", "blocklist", "spii"}
)
_WORDS: Final = {
    **dict.fromkeys(("allow", "allowed", "pass", "passed", "none", "audit", "warn"), PASSED),
    **dict.fromkeys(
        (
            "deny",
            "denied",
            "block",
            "blocked",
            "fail",
            "failed",
            "stop",
            "intervened",
            "guardrail_intervened",
        ),
        BLOCKED,
    ),
    **dict.fromkeys(
        ("modify", "modified", "redact", "redacted", "mask", "masked", "anonymize", "anonymized"), MODIFIED
    ),
}
# The strictest of several decisions counts.
_ORDER: Final = (BLOCKED, MODIFIED, PASSED)
_LONGEST: Final = 256


def guardrail_of(
    attributes: Mapping[str, Any], events: Iterable[Mapping[str, Any]], finish_reasons: Any
) -> dict[str, str]:
    """``ml.guardrail.name`` and ``ml.guardrail.outcome``, where known.

    Args:
        attributes: of the span.
        events: the attributes of each of its events.
        finish_reasons: why generation ended.
    """
    found: dict[str, str] = {}
    name = ""
    for one in (attributes, *events):
        own = next((str(one[key])[:_LONGEST] for key in NAMES if one.get(key)), "")
        name = name or own
        outcome = next((judged for key in DECISIONS if (judged := _judgement(one.get(key)))), "")
        if outcome:
            found.setdefault(outcome, own)
    if isinstance(finish_reasons, str):
        finish_reasons = (finish_reasons,)
    for reason in finish_reasons or ():
        if str(reason).lower() in FILTERED:
            found.setdefault(BLOCKED, name or str(reason).lower())
    for outcome in _ORDER:
        if outcome in found:
            named = found[outcome] or name
            return {"ml.guardrail.outcome": outcome} | ({"ml.guardrail.name": named} if named else {})
    return {"ml.guardrail.name": name} if name else {}


def _judgement(value: Any) -> str:
    if isinstance(value, bool):
        return BLOCKED if value else PASSED
    return _WORDS.get(value.strip().lower(), "") if isinstance(value, str) else ""
