"""Spans and log records that are audit events."""

from __future__ import annotations

from typing import Any

import pytest

from mlaudit.policy.evaluate import CompiledPolicy, compile_policy
from mlaudit.policy.load import load_policy, parse_policy

POLICY = """
version: 1
revisions: [{number: 1, date: 2026-01-01, changes: c, reason: r, sections: ['3']}]
rules: []
spans:
  - scope: "lib.*"
    name: [load, "load *"]
    attributes: {cached: false, tries: 2, model: "fraud*", who: "*"}
    kind: audit.ml.model.loaded
    fields: {model: [ml.model.name, labels.model], version: ml.model.version, list: labels.list}
  - name: shadow
    kind: audit.app.shadow
logs:
  - logger: "auth.*"
    severity: warn
    attributes: {result: denied}
    kind: audit.access.denied
    fields: {user: user.name, "http.*": "http.*"}
  - event_name: ["audit.*"]
"""


@pytest.fixture(scope="module")
def policy() -> CompiledPolicy:
    """The compiled policy of this module."""
    return compile_policy(parse_policy(POLICY, "test"), b"key")


@pytest.fixture(scope="module")
def default() -> CompiledPolicy:
    """The compiled built-in policy."""
    return compile_policy(load_policy(None), b"key")


GOOD: dict[str, Any] = {"cached": False, "tries": 2, "model": "fraud-1", "who": "x", "list": ("a", "b")}


@pytest.mark.parametrize(
    ("scope", "name", "change", "matches"),
    [
        ("lib.io", "load", {}, True),
        ("lib.io", "load x", {}, True),
        ("other", "load", {}, False),
        ("lib.io", "loads", {}, False),
        ("lib.io", "load", {"cached": True}, False),
        ("lib.io", "load", {"cached": 0}, False),
        ("lib.io", "load", {"tries": 2.0}, True),
        ("lib.io", "load", {"tries": "2"}, False),
        ("lib.io", "load", {"model": "spam"}, False),
        ("lib.io", "load", {"model": 3}, False),
        ("lib.io", "load", {"who": None}, False),
    ],
)
def test_a_span_is_selected_by_all_of_its_criteria(
    policy: CompiledPolicy, scope: str, name: str, change: dict[str, Any], matches: bool
) -> None:
    """Scope, name and every attribute; numbers and truth values are compared as such."""
    found = policy.span_kind(scope, name, {**GOOD, **change})
    assert (found is not None and found.kind == "audit.ml.model.loaded") is matches


def test_attributes_become_fields(policy: CompiledPolicy) -> None:
    """One attribute may fill several fields; what is absent is left out; sequences are lists."""
    found = policy.span_kind("lib.io", "load", GOOD)
    assert found is not None
    assert found.fields == {"ml.model.name": "fraud-1", "labels.model": "fraud-1", "labels.list": ["a", "b"]}


@pytest.mark.parametrize(
    ("event", "logger", "severity", "result", "kind"),
    [
        ("", "auth.web", 13, "denied", "audit.access.denied"),
        ("", "auth.web", 12, "denied", None),
        ("", "web", 17, "denied", None),
        ("", "auth.web", 17, "ok", None),
        ("audit.ml.prediction", "x", 0, "", "audit.ml.prediction"),
        ("audit.app.refund", "x", 0, "", "audit.app.refund"),
        ("audit.ml.nonsense", "x", 0, "", None),
        ("audit.stream.checkpoint", "x", 21, "", None),
        ("audit.policy.changed", "x", 21, "", None),
    ],
)
def test_a_log_record_is_selected_by_all_of_its_criteria(
    policy: CompiledPolicy, event: str, logger: str, severity: int, result: str, kind: str | None
) -> None:
    """Without a kind the event name is the kind, unless only mlaudit itself may record it."""
    found = policy.log_kind(event, logger, severity, {"result": result})
    assert (found.kind if found else None) == kind


def test_a_pattern_copies_only_what_the_catalog_knows(policy: CompiledPolicy) -> None:
    """Fields of the catalog under their own name, and never the record's own."""
    attributes = {
        "result": "denied",
        "user": "bob",
        "http.route": "/x",
        "http.secret": "y",
        "audit.outcome": "success",
    }
    found = policy.log_kind("", "auth.web", 17, attributes)
    assert found is not None
    assert found.fields == {"user.name": "bob", "http.route": "/x"}


def test_the_default_policy_takes_generative_ai_spans_without_their_prompts(default: CompiledPolicy) -> None:
    """A GenAI span is a prediction of its requested model; messages are not copied."""
    found = default.span_kind(
        "any",
        "chat gpt",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.input.messages": "[secret]",
            "gen_ai.prompt": "secret",
        },
    )
    assert found is not None
    assert found.kind == "audit.ml.prediction"
    assert found.fields == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt",
        "gen_ai.usage.input_tokens": 7,
        "ml.model.name": "gpt",
    }
    assert default.span_kind("any", "GET /", {"http.request.method": "GET"}) is None


def test_the_default_policy_takes_audit_log_records(default: CompiledPolicy) -> None:
    """A log record named like a kind of the catalog is that event, with the fields that it has."""
    found = default.log_kind(
        "audit.access.denied", attributes={"http.route": "/x", "audit.actor.id": "me", "z": 1}
    )
    assert found is not None
    assert found == ("audit.access.denied", {"http.route": "/x"})
    assert default.log_kind("user.login") is None
    assert default.log_kind("") is None
