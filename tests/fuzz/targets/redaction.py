"""Redaction of any text and any value: never raises, takes bounded time, and its output is stable."""

from __future__ import annotations

import time
from functools import lru_cache

from tests.fuzz.choices import Choices

from mlaudit.policy.methods import Pseudonyms
from mlaudit.policy.redact import Redaction, RedactionRule
from mlaudit.policy.scrub import Scrubber

_KEY = b"a pseudonym key of the fuzzing"
_PIECES = (
    "password", "=", ": ", "://", "@", ":", "a", "1", " ", "-", "--token ", "Bearer ", "basic ", "eyJ", ".",
    "ghp_", "sk-", "<a>", "</a>",
    'name="', "\r\n", "{", "}", "[", "]", '"', "\\", "%40", "-----BEGIN PRIVATE KEY-----", "4111 1111 1111 1111",
    "authorization:", "cookie=", "&",
    "api_key", "é", "\ud800",
)  # fmt: skip
# For a text of this length; a process under coverage and load is several times slower than a service.
LENGTH = 1 << 14
SECONDS = 3.0


@lru_cache(maxsize=1)
def redactions() -> tuple[Redaction, ...]:
    """One for each method, of one policy."""
    pseudonyms, scrubber = Pseudonyms(_KEY), Scrubber(_KEY)
    rules = (RedactionRule(("*", "!url.*"), method, 3) for method in ("drop", "mask", "hmac", "truncate"))
    return (
        Redaction((), pseudonyms, scrubber),
        *(Redaction((rule,), pseudonyms, scrubber) for rule in rules),
    )


def run(data: bytes) -> None:
    """Scrubs a text of repeated pattern prefixes; then redacts fields."""
    choices = Choices(data)
    pieces = [
        choices.pick(_PIECES) if choices.below(8) else choices.text(6) for _ in range(1 + choices.below(6))
    ]
    unit = "".join(pieces)
    text = unit * min(1 + choices.below(1 << 16), LENGTH // max(len(unit), 1))
    scrubber = Scrubber(_KEY, emails=choices.often())
    started = time.process_time()
    once = scrubber.text(text)
    took = time.process_time() - started
    assert took < SECONDS, f"{took:.1f} s for {len(text)} characters"
    if len(text) < 4096:
        assert scrubber.text(once) == once, "scrubbing again changed it"
    fields = {
        "message": text[:2000],
        "url.query": choices.text(),
        "user.id": choices.text(),
        "source.ip": choices.text(),
        "labels": choices.json(),
        choices.text(): choices.json(),
    }
    redaction = choices.pick(redactions())
    failed = redaction.apply(fields)
    assert not failed, f"a redactor failed on {failed}"
