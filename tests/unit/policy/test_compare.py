"""Comparing policies."""

from __future__ import annotations

import json

import pytest

from mlaudit.policy.compare import changes, lowered, snapshot
from mlaudit.policy.load import load_policy, parse_policy
from mlaudit.policy.model import Policy

HEAD = """
version: 1
revisions: [{number: 1, date: 2026-01-01, changes: c, reason: r, sections: ['3']}]
spans: []
logs: []
redact: []
"""
BASE = """
routes: [{methods: [PUT], path: /config/**, kind: audit.ml.config.changed}]
watch: [/etc/model.yaml]
rules:
  - {name: a, match: {kind: audit.ml.prediction, model: fraud}, level: full, on_failure: refuse}
  - {name: b, level: inputs, guarantee: durable}
"""


def policy(text: str) -> Policy:
    """A policy of this text."""
    return parse_policy(HEAD + text, "test")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("level: full", "level: inputs", {"audit.ml.prediction (model fraud): level was full, is inputs"}),
        ("on_failure: refuse", "on_failure: continue", {
            "audit.ml.prediction (model fraud): on_failure was refuse, is continue",
        }),
        ("level: inputs", "level: full", set()),
        ("watch: [/etc/model.yaml]", "watch: []", {"/etc/model.yaml: watch was watched, is not watched"}),
        ("kind: audit.ml.config.changed", "kind: none", {
            "PUT /config/x: route was audit.ml.config.changed, is not audited",
        }),
        ("path: /config/**", "path: /config/a", {
            "PUT /config/x: route was audit.ml.config.changed, is an ordinary request",
        }),
        (
            "kind: audit.ml.config.changed",
            "kind: audit.api.request",
            set(),  # rule b keeps both durable at the same level
        ),
        ("model: fraud}", "model: fraud, service: x}", {
            "audit.ml.prediction (model fraud): level was full, is inputs",
            "audit.ml.prediction (model fraud): on_failure was refuse, is continue",
        }),
    ],
)  # fmt: skip
def test_what_is_recorded_less_is_named(before: str, after: str, expected: set[str]) -> None:
    """One change at a time: each lowering is reported once, a raise is not a lowering."""
    assert {str(entry) for entry in lowered(policy(BASE), policy(BASE.replace(before, after)))} == expected


def test_a_weaker_guarantee_and_newly_dropped_fields_are_lowered() -> None:
    """For every kind that they concern."""
    after = policy(
        BASE.replace("guarantee: durable", "guarantee: buffered, redact: [{fields: user.id, method: drop}]")
    )
    found = {
        (entry.what, entry.after)
        for entry in lowered(policy(BASE), after)
        if entry.subject == "audit.access.denied"
    }
    assert found == {("guarantee", "buffered"), ("fields", "dropped (user.id)")}


def test_a_removed_selector_is_lowered() -> None:
    """Spans that were audit events and no longer are count as lowered."""
    with_spans = parse_policy(HEAD.replace("spans: []\n", "") + BASE, "test")
    assert [entry.what for entry in lowered(with_spans, policy(BASE))] == ["span"]
    assert lowered(policy(BASE), with_spans) == []


def test_a_snapshot_compares_like_its_policy() -> None:
    """After a trip through JSON as well."""
    one, two = policy(BASE), policy(BASE.replace("level: full", "level: none"))
    kept = json.loads(json.dumps(snapshot(one)))
    assert kept["digest"] == one.digest
    assert lowered(kept, two) == lowered(one, two) != []
    assert lowered(kept, one) == []
    assert changes(kept, json.loads(json.dumps(snapshot(one)))) == []


@pytest.mark.parametrize("broken", [None, {}, {"policy": 5}, {"policy": {"version": 99}}])
def test_a_snapshot_that_cannot_be_read_counts_as_lowered(broken: dict[str, object] | None) -> None:
    """A policy that cannot be read counts as lowered."""
    assert [entry.what for entry in lowered(broken, load_policy(None))] == ["policy"]
    assert changes(broken, load_policy(None)) == ["the previous policy can no longer be read"]


def test_changes_are_sentences() -> None:
    """What is lowered comes first, then section by section."""
    after = BASE.replace("name: b", "name: c").replace(
        "watch: [/etc/model.yaml]", "watch: [/etc/model.yaml, /etc/x]"
    )
    head = HEAD.replace("number: 1", "number: 2").replace("changes: c", "changes: Watch x")
    assert changes(policy(BASE), parse_policy(head + after, "test")) == [
        "revision 2 of 2026-01-01: Watch x",
        "revision 1 removed",
        "rule 'c' added",
        "rule 'b' removed",
        "watch: added /etc/x",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("tables: [customers, 'crm.*']", "tables: customers", {
            "table crm.x: table was recorded, is not recorded"
        }),
        ("tables: customers", "tables: '*'", set()),
        ("tables: '*'", "tables: ['*', '!loans']", {"table loans: table was recorded, is not recorded"}),
        ("paths: '**'", "paths: /srv/**", {
            "any path: path was recorded, is not recorded", "path x: path was recorded, is not recorded"
        }),
        ("paths: '**'", "paths: ['**', '!/tmp/**']", {"path /tmp/x: path was recorded, is not recorded"}),
        ("paths: []", "paths: '**'", set()),
        ("bulk_rows: 100", "bulk_rows: 200", {
            "data in bulk: bulk_rows was from 100 rows, is from 200 rows"
        }),
        ("bulk_rows: 100", "bulk_rows: null", {"data in bulk: bulk_rows was from 100 rows, is never"}),
        ("bulk_rows: null", "bulk_rows: 100", set()),
    ],
)  # fmt: skip
def test_data_that_is_no_longer_recorded_is_named(before: str, after: str, expected: set[str]) -> None:
    """Tables and paths by a text that their pattern matches, and a bulk that begins later."""
    one, two = (policy(f"{BASE}\ndata: {{{text}}}\n") for text in (before, after))
    assert {str(entry) for entry in lowered(one, two)} == expected
