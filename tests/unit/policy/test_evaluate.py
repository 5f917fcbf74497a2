"""Policy decisions, as table tests over one policy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from mlaudit.policy.evaluate import CompiledPolicy, Facts, Level, compile_policy
from mlaudit.policy.load import parse_policy
from mlaudit.policy.vocabulary import FINAL_RULE

POLICY = """
version: 1
revisions: [{number: 7, date: 2026-01-01, changes: c, reason: r, sections: ['3']}]
redact:
  - {fields: "user.*", method: hmac}
routes:
  - {methods: [GET, HEAD], path: /health, kind: none}
  - {methods: POST, path: /predict, kind: audit.ml.prediction}
  - {methods: [PUT, PATCH], path: /config/**, kind: audit.ml.config.changed}
  - {path: /internal/**, kind: none}
  - {methods: POST, path: /internal/predict, kind: audit.ml.prediction}
rules:
  - name: ping
    match: {kind: audit.api.request, route: /ping, actor: "probe-*"}
    level: none
  - name: credit
    match: {kind: "audit.ml.*", service: [loans, "credit-*"], model: "fraud*"}
    level: full
    guarantee: durable
    on_failure: refuse
    retention: long
    redact: [{fields: user.name, method: drop}]
  - name: predictions
    match: {kind: audit.ml.prediction}
    level: inputs
  - name: denied-durable
    match: {kind: "audit.access.*", route: ["/admin/**", "/users/*"]}
    level: metadata
    guarantee: durable
  - name: quiet
    match: {kind: ["audit.stream.*", "audit.app.noise"]}
    level: none
watch: [/etc/model.yaml]
models: [{name: "fraud*", digest: "sha256:%s"}]
change: {ticket_header: X-Ticket, approver_header: X-Who}
""" % ("a" * 64)


@pytest.fixture(scope="module")
def policy() -> CompiledPolicy:
    """The compiled policy of this module."""
    return compile_policy(parse_policy(POLICY, "test"), b"key")


@pytest.mark.parametrize(
    ("facts", "rule", "level", "guarantee", "on_failure"),
    [
        (
            Facts("audit.api.request", route="/ping", actor="probe-1"),
            "ping",
            Level.NONE,
            "buffered",
            "continue",
        ),
        (
            Facts("audit.api.request", route="/ping", actor="bob"),
            FINAL_RULE,
            Level.METADATA,
            "buffered",
            "continue",
        ),
        (Facts("audit.api.request", route="/ping"), FINAL_RULE, Level.METADATA, "buffered", "continue"),
        (
            Facts("audit.ml.prediction", service="loans", model="fraud-3"),
            "credit",
            Level.FULL,
            "durable",
            "refuse",
        ),
        (
            Facts("audit.ml.model.loaded", service="credit-eu", model="fraud"),
            "credit",
            Level.FULL,
            "durable",
            "refuse",
        ),
        (
            Facts("audit.ml.prediction", service="loans", model="spam"),
            "predictions",
            Level.INPUTS,
            "buffered",
            "continue",
        ),
        (
            Facts("audit.ml.prediction", service="loan", model="fraud"),
            "predictions",
            Level.INPUTS,
            "buffered",
            "continue",
        ),
        (
            Facts("audit.access.denied", route="/admin/a/b"),
            "denied-durable",
            Level.METADATA,
            "durable",
            "continue",
        ),
        (Facts("audit.access.denied", route="/users/1/2"), FINAL_RULE, Level.METADATA, "durable", "continue"),
        (Facts("audit.app.noise"), "quiet", Level.NONE, "durable", "continue"),
        (Facts("audit.app.other"), FINAL_RULE, Level.METADATA, "durable", "continue"),
        (Facts("audit.stream.checkpoint"), "quiet", Level.METADATA, "durable", "continue"),
        (Facts("no.such.kind"), FINAL_RULE, Level.METADATA, "durable", "continue"),
    ],
)
def test_the_first_matching_rule_decides(
    policy: CompiledPolicy, facts: Facts, rule: str, level: Level, guarantee: str, on_failure: str
) -> None:
    """The first rule whose criteria all match decides on each event, with the same result from the cache."""
    for _ in range(2):
        decision = policy.decide(facts)
        assert (decision.rule, decision.level, decision.guarantee, decision.on_failure) == (
            rule,
            level,
            guarantee,
            on_failure,
        )


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/health", ""),
        ("GET", "/health/", ""),
        ("GET", "/health/x", None),
        ("GET", "/healthy", None),
        ("POST", "/health", None),
        ("POST", "/predict", "audit.ml.prediction"),
        ("post", "/predict", None),
        ("PUT", "/config", "audit.ml.config.changed"),
        ("PATCH", "/config/a/b", "audit.ml.config.changed"),
        ("GET", "/config/a", None),
        ("POST", "/internal/predict", ""),
        ("BREW", "/internal/x", ""),
        ("GET", "/health/../predict", None),
        ("GET", "", None),
    ],
)
def test_a_request_has_the_kind_of_its_first_route(
    policy: CompiledPolicy, method: str, path: str, kind: str | None
) -> None:
    """Methods and paths map to a kind, to "" for what is deliberately not audited, or to None."""
    assert policy.route_kind(method, path) == kind


def test_a_rules_own_redactions_come_after_the_policys(policy: CompiledPolicy) -> None:
    """The credit rule drops what the policy pseudonymises; other rules only pseudonymise."""
    credit: dict[str, Any] = {"user.id": "alice", "user.name": "Alice"}
    policy.decide(Facts("audit.ml.prediction", service="loans", model="fraud")).redaction.apply(credit)
    assert list(credit) == ["user.id"]
    assert credit["user.id"].startswith("hmac:")
    other: dict[str, Any] = {"user.name": "Alice"}
    policy.decide(Facts("audit.api.request")).redaction.apply(other)
    assert other["user.name"].startswith("hmac:")


def test_a_policy_without_rules_records_metadata() -> None:
    """With nothing to match, the built-in final rule decides: recorded, at metadata."""
    text = POLICY[: POLICY.index("rules:")] + "rules: []\n"
    decision = compile_policy(parse_policy(text, "test"), b"key").decide(Facts("audit.ml.prediction"))
    assert (decision.rule, decision.level, decision.retention) == (FINAL_RULE, Level.METADATA, "standard")


def test_the_other_sections_are_compiled(policy: CompiledPolicy) -> None:
    """Revision, watched files, registry and change control are available."""
    assert policy.revision == 7
    assert policy.watch == ("/etc/model.yaml",)
    assert policy.models.lookup("a" * 64, name="fraud-1").status == "match"
    assert (policy.change.ticket_header, policy.change.approver_header) == ("x-ticket", "x-who")
    assert (policy.max_level, policy.can_refuse) == (Level.FULL, True)


def test_an_empty_pseudonym_key_is_refused() -> None:
    """Without a key, anybody could test guesses against a pseudonym."""
    with pytest.raises(ValueError, match="empty"):
        compile_policy(parse_policy(POLICY, "test"), b"")


def test_a_flood_of_routes_and_actors_does_not_grow_the_caches(policy: CompiledPolicy) -> None:
    """Texts that clients choose fill bounded caches, and the decision stays correct."""
    for n in range(6000):
        policy.decide(Facts("audit.api.request", route=f"/x{n}", actor=f"a{n}"))
        policy.route_kind("GET", f"/x{n}")
    assert policy._decided.cache_info().currsize <= 4096
    assert policy._kinds.cache_info().currsize <= 2048
    assert policy.decide(Facts("audit.api.request", route="/ping", actor="probe-1")).rule == "ping"


def test_deciding_imports_neither_yaml_nor_pydantic() -> None:
    """The hot path's modules stay light."""
    code = (
        "import sys, mlaudit.policy.evaluate, mlaudit.policy.redact;"
        "sys.exit(any(name.split('.')[0] in ('yaml', 'pydantic') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
