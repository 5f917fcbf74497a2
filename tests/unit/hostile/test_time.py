"""Texts and policies designed to be slow take time linear in their length."""

from __future__ import annotations

import time

import pytest

from mlaudit.policy.load import inspect_policy
from mlaudit.policy.scrub import Scrubber

KEY = b"a pseudonym key for tests only"
LENGTH = 1 << 15
# A quiet machine needs a tenth of a second for the slowest; a loaded one and a slow one get room.
SECONDS = 3.0
SLOW = (
    "12 34 1 ", "1 ", "1-1 1 ", "4111 1111 1111 111", "eyJ", "eyJaaaaa.", "://", "://" + "a" * 100 + ":", "@",
    "a@", "aaaa.@", "%40",
    "a=", "=", "password=", "password={", 'password:"', "<a>", "<a ", "<password>", "</", 'name="',
    'name="password"\r\n', "--a ",
    "--password ", "bearer ", "basic aA", "ghp_", "hf_" + "a" * 19 + " ", "-----BEGIN PRIVATE KEY", "cookie=", "{",
    "[", '"', '\\"',
    "1" * 121 + "a ", "a" * 64 + "=", "&a=%",
)  # fmt: skip
HEAD = "version: 1\nrevisions: [{number: 1, date: 2026-01-01, changes: x, reason: y, sections: z}]\n"
_RULE = "- {name: r%d, match: {kind: 'audit.app.k%d*'}, level: full}\n"
_ROUTE = "- {path: '/a%d/**/b*', kind: audit.ml.prediction}\n"
_ALIAS = "a%d: &x%d [*x%d, *x%d]\n"
POLICIES = {
    "rules": HEAD + "rules:\n" + "".join(_RULE % (n, n) for n in range(400)),
    "routes": HEAD + "rules: []\nroutes:\n" + "".join(_ROUTE % n for n in range(800)),
    "unknown keys": "".join(f"k{n}: 1\n" for n in range(3000)),
    "items of no kind": "rules:\n" + "- a\n" * 10_000,
    "aliases of aliases": "a0: &x0 [1]\n" + "".join(_ALIAS % (n, n, n - 1, n - 1) for n in range(1, 1000)),
    "open brackets": "[" * 50_000,
    "one number": "version: " + "9" * 100_000,
    "too many characters": "# a\n" * 300_000,
}  # fmt: skip


@pytest.mark.parametrize("unit", SLOW)
def test_scrubbing_takes_bounded_time(unit: str) -> None:
    """The beginning of a secret, over and over, is looked through in time that grows with its length."""
    scrubber = Scrubber(KEY)
    text = unit * (LENGTH // len(unit))
    started = time.process_time()
    scrubber.text(text)
    scrubber.query(text)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_file_takes_bounded_time(name: str) -> None:
    """Many rules, faults, aliases or levels are read, or refused with at most 200 faults, in bounded time."""
    started = time.process_time()
    found = inspect_policy(POLICIES[name])
    assert time.process_time() - started < 20
    assert (found.policy is None) == (name not in ("rules", "routes"))
    assert len(found.faults) <= 200
