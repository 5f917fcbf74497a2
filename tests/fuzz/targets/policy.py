"""A policy file of any content is read, or rejected with every fault, in bounded time."""

from __future__ import annotations

import time

from tests.fuzz.choices import Choices

from mlaudit.errors import PolicyError
from mlaudit.policy.compare import changes, lowered, snapshot
from mlaudit.policy.evaluate import Facts, compile_policy
from mlaudit.policy.load import built_in_text, inspect_policy, parse_policy
from mlaudit.policy.model import Policy

SECONDS = 5.0
_KEY = b"a pseudonym key of the fuzzing"
_PIECES = (
    "version: 1\n", "revisions:\n", "- ", "  ", "\n", ": ", "number: 1\n", "date: 2026-01-01\n", "changes: x\n",
    "reason: y\n",
    "sections: z\n", "rules:\n", "rules: []\n", "name: a\n", "match: ", "{", "}", "[", "]", ", ",
    "kind: audit.ml.prediction", "level: full\n",
    "level: none\n", "redact:\n", "fields: ", "['*']", "method: hmac\n", "method: truncate\n", "keep: 3\n", "&a ",
    "*a", "!!python/object:os.system ",
    "!!binary ", "? ", "| \n", "> \n", "# ", "---\n", "...\n", "%YAML 1.1\n", "<<: *a\n", "99999999999999999999",
    "1e400", ".nan", "0x1f", "~", "null",
    "true", "\t", "\ufeff", "\x85", "\u2028", "routes:\n", "path: /a/**/b*\n", "path: '[!a-z]?'\n",
    "methods: [GET]\n", "watch: [/etc/x]\n", "models:\n",
    "digest: sha256:" + "0" * 64 + "\n", "change:\n", "windows:\n", "days: [mon]\n", "start: '22:00'\n",
    "end: '04:00'\n", "timezone: Europe/Berlin\n",
    "spans:\n", "logs:\n", "scrub: {emails: false, keys: ['*']}\n", "'", '"', "\\", "guarantee: durable\n",
    "on_failure: refuse\n",
)  # fmt: skip
_START = (
    "version: 1\nrevisions:\n- {number: 1, date: 2026-01-01, changes: x, reason: y, sections: z}\nrules: []\n"
)


def run(data: bytes) -> None:
    """Reads the policy; a valid one also makes a decision."""
    choices = Choices(data)
    way = choices.below(4)
    content: bytes | str
    if way == 0:
        content = choices.rest()
    elif way == 1:
        content = choices.mutated((_START if choices.often() else built_in_text()).encode())
    else:
        text = _START if way == 2 else ""
        while choices.left and len(text) < 20_000:
            text += choices.pick(_PIECES) if choices.below(8) else choices.text(8)
        content = text
    started = time.monotonic()
    found = inspect_policy(content)
    assert time.monotonic() - started < SECONDS, "the policy took too long to read"
    assert (found.policy is None) == bool(found.faults)
    if found.policy is None:
        try:
            parse_policy(content, "policy.yaml")
        except PolicyError as error:
            assert str(error)
            return
        raise AssertionError("a policy with faults was taken")
    _use(found.policy, choices)


def _use(policy: Policy, choices: Choices) -> None:
    compiled = compile_policy(policy, _KEY)
    for kind in ("audit.ml.prediction", "audit.ml.config.changed", "audit.app.x", choices.text()):
        decision = compiled.decide(
            Facts(kind, choices.text(), choices.text(), choices.text(), choices.text())
        )
        decision.redaction.apply({"user.id": choices.text(), "message": choices.text()})
        compiled.route_kind("POST", choices.text())
    noted = snapshot(policy)
    assert changes(noted, noted) == []
    assert not lowered(noted, noted)
