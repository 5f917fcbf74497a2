"""Redaction of a record's fields."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mlaudit.policy.evaluate import Facts, compile_policy
from mlaudit.policy.load import load_policy
from mlaudit.policy.methods import Pseudonyms, mask, truncate
from mlaudit.policy.redact import FAILED_FIELD, Redaction, RedactionRule
from mlaudit.policy.scrub import MAX_TEXT, Scrubber

KEY = b"a key for tests"


def redaction(*rules: RedactionRule, emails: bool = True, keys: tuple[str, ...] = ()) -> Redaction:
    """A redaction with these rules."""
    return Redaction(rules, Pseudonyms(KEY), Scrubber(KEY, emails=emails, keys=keys))


def redacted(fields: dict[str, Any], *rules: RedactionRule) -> dict[str, Any]:
    """The fields after these redactions; nothing may have failed."""
    assert list(redaction(*rules).apply(fields)) == []
    return fields


@pytest.mark.parametrize(
    ("text", "keep", "expected"),
    [
        ("4111111111111111", 4, "***1111"),
        ("abcd", 4, "***"),
        ("abcdefgh", 4, "***"),
        ("abc", 0, "***"),
        ("", 2, "***"),
    ],
)
def test_mask_keeps_the_last_characters(text: str, keep: int, expected: str) -> None:
    """Only of a text more than twice as long as what is kept."""
    assert mask(text, keep) == expected


@pytest.mark.parametrize(
    ("text", "keep", "expected"),
    [
        ("10.1.2.3", 99, "10.1.2.0"),
        ("2001:db8:1:2::3", 99, "2001:db8:1::"),
        ("::ffff:10.1.2.3", 99, "10.1.2.0"),
        ("fe80::1%eth0", 99, "fe80::"),
        ("10.1.2.3:80", 4, "10.1…"),
        ("abcdef", 3, "abc…"),
        ("abc", 3, "abc"),
    ],
)
def test_truncate_shortens_texts_and_addresses(text: str, keep: int, expected: str) -> None:
    """An address becomes that of its network; a text is cut and marked."""
    assert truncate(text, keep) == expected


def test_methods_apply_to_lists_numbers_and_mappings_element_by_element() -> None:
    """A list of users gives a list of pseudonyms, the same as each alone."""
    of = Pseudonyms(KEY).of
    fields = redacted(
        {"related.user": ["alice", "bob"], "user.id": 42, "app.owners": {"a": "alice"}},
        RedactionRule(("related.user", "user.id", "app.owners"), "hmac"),
    )
    assert fields == {
        "related.user": [of("alice"), of("bob")],
        "user.id": of("42"),
        "app.owners": {"a": of("alice")},
    }


def test_a_pseudonym_in_the_input_is_hashed_again() -> None:
    """An actor cannot pass as another by using that actor's pseudonym as a name."""
    of = Pseudonyms(KEY).of
    assert of(of("alice")) != of("alice")


def test_redactions_apply_in_order_and_exceptions_are_left_out() -> None:
    """Later redactions work on what earlier ones left; !name takes a field out of a pattern."""
    fields = redacted(
        {"user.id": "alice", "user.roles": ["admin"], "ml.model.name": "a long model name"},
        RedactionRule(("user.*", "!user.roles"), "hmac"),
        RedactionRule(("user.id",), "mask", 4),
        RedactionRule(("ml.model.name",), "truncate", 6),
        RedactionRule(("ml.model.name",), "mask", 1),
    )
    assert fields["user.id"].startswith("***")
    assert len(fields["user.id"]) == 7
    assert fields["user.roles"] == ["admin"]
    assert fields["ml.model.name"] == "***…"


def test_fields_that_a_record_needs_cannot_be_redacted_away() -> None:
    """Dropping everything leaves the required fields, and a mark for the actor."""
    fields = redacted(
        {
            "audit.kind": "audit.api.request",
            "event.id": "1",
            "@timestamp": "t",
            "audit.actor.id": "alice",
            "user.id": "x",
        },
        RedactionRule(("*",), "drop"),
    )
    assert fields == {
        "audit.kind": "audit.api.request",
        "event.id": "1",
        "@timestamp": "t",
        "audit.actor.id": "[removed]",
    }


def test_an_address_field_stays_an_address_or_goes() -> None:
    """A value that is not an address is dropped from a field that must hold one."""
    fields = redacted(
        {"source.ip": "unix socket", "related.ip": ["10.0.0.1", "testclient"]},
        RedactionRule(("source.ip", "related.ip"), "truncate"),
    )
    assert fields == {"related.ip": ["10.0.0.0"]}


def test_a_redacted_value_is_replaced_in_free_text_too() -> None:
    """A pseudonymised name is also replaced in the error message and in nested values."""
    of = Pseudonyms(KEY).of
    fields = redacted(
        {
            "user.id": "alice",
            "source.ip": "10.1.2.3",
            "user.name": "Al",
            "error.message": "alice (malice) from 10.1.2.3: Al",
            "labels": {"by": "for alice", "alice": 1},
        },
        RedactionRule(("user.*",), "hmac"),
        RedactionRule(("source.ip",), "truncate"),
    )
    assert fields["error.message"] == f"{of('alice')} (malice) from 10.1.2.0: Al"
    assert fields["labels"] == {"by": f"for {of('alice')}", of("alice"): 1}


def test_a_field_whose_name_is_a_secret_is_dropped() -> None:
    """A field name that indicates a secret is dropped, unless the catalog has the field."""
    fields = redacted(
        {"labels.api_key": "x", "http.request.header.cookie": "y", "gen_ai.usage.input_tokens": 5}
    )
    assert fields == {"gen_ai.usage.input_tokens": 5}


def test_the_policys_own_secret_names_count() -> None:
    """Patterns of scrub.keys are dropped at every depth, whatever their case."""
    fields: dict[str, Any] = {"ml.model.parameters": {"Patient_Id": 1, "deep": [{"patient_no": 2, "n": 3}]}}
    redaction(keys=("patient*",)).apply(fields)
    assert fields == {"ml.model.parameters": {"deep": [{"n": 3}]}}


def test_a_secret_is_found_before_a_text_is_truncated() -> None:
    """Half a token would no longer be recognised."""
    fields = redacted(
        {"error.message": "failed: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"},
        RedactionRule(("error.*",), "truncate", 20),
    )
    assert fields["error.message"] == "failed: [jwt]"


class _Bomb:
    def __str__(self) -> str:
        raise RuntimeError("boom")


def test_a_redactor_that_fails_drops_the_value_and_says_so() -> None:
    """A failing redactor drops the value and records the name; the other fields are still redacted."""
    fields: dict[str, Any] = {"user.id": _Bomb(), "audit.actor.id": _Bomb(), "user.name": "alice"}
    failed = redaction(RedactionRule(("user.*", "audit.actor.id"), "hmac")).apply(fields)
    assert sorted(failed) == ["audit.actor.id", "user.id"]
    assert fields == {
        "audit.actor.id": "[removed]",
        "user.name": Pseudonyms(KEY).of("alice"),
        FAILED_FIELD: ["audit.actor.id", "user.id"],
    }


def test_a_scrubber_that_fails_drops_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while searching for secrets never lets the text through."""

    def explode(*_: Any, **__: Any) -> str:
        raise RecursionError

    monkeypatch.setattr("mlaudit.policy.scrub.scrub_text", explode)
    fields: dict[str, Any] = {
        "error.message": "password=x",
        "labels": {"a": "password=x"},
        "http.route": "/x",
    }
    assert sorted(redaction().apply(fields)) == ["error.message", "labels"]
    assert fields == {"http.route": "/x", FAILED_FIELD: ["error.message", "labels"]}


def test_without_a_plan_nothing_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while compiling a plan drops all but the required fields."""
    broken = redaction()
    monkeypatch.setattr(Redaction, "_make_plan", lambda *_: 1 / 0)
    fields: dict[str, Any] = {"audit.kind": "k", "user.id": "alice", "message": "alice"}
    assert sorted(broken.apply(fields)) == ["message", "user.id"]
    assert fields == {"audit.kind": "k", FAILED_FIELD: ["message", "user.id"]}


def test_what_is_too_deep_too_many_or_too_long_becomes_a_marker() -> None:
    """Its length and a keyed digest replace a value that is too large, never a part of it."""
    deep: Any = "innermost"
    for _ in range(30):
        deep = [deep]
    circular: dict[str, Any] = {}
    circular["self"] = circular
    fields = redacted({
        "ml.model.parameters": deep,
        "labels": circular,
        "ml.prediction.input": list(range(30_000)),
        "error.message": "x" * (MAX_TEXT + 1),
    })  # fmt: skip
    assert "innermost" not in str(fields)
    assert "[too deep: " in str(fields["ml.model.parameters"])
    assert "[too deep: dict]" in str(fields["labels"])
    assert fields["ml.prediction.input"].startswith("[too many parts: ")
    assert fields["error.message"].startswith(f"[too long: {MAX_TEXT + 1} characters, hmac ")


def test_the_callers_values_are_never_changed() -> None:
    """Parameters belong to the application's model; the record gets a copy."""
    params = {"C": 1, "password": "x", "nested": [{"token": "y", "a": ("b",)}]}
    before = copy.deepcopy(params)
    fields = redacted({"ml.model.parameters": params})
    assert params == before
    assert fields["ml.model.parameters"] == {"C": 1, "nested": [{"a": ["b"]}]}


def test_json_without_secrets_keeps_its_bytes() -> None:
    """A body without secrets stays unchanged."""
    body = '{ "b": 1,  "a": [1.50, "x"] }'
    assert redacted({"http.request.body.content": body})["http.request.body.content"] == body


def test_plans_are_bounded() -> None:
    """Labels that create new shapes without limit do not grow the memory."""
    one = redaction()
    for n in range(1500):
        one.apply({f"labels.l{n}": 1})
    assert len(one._plans) <= 512
    one.apply({f"labels.{'x' * 100}{n}": 1 for n in range(1000)})
    assert max(sum(map(len, shape)) for shape in one._plans) < 20_000


def test_the_default_policy_hides_people_and_keeps_roles() -> None:
    """Under the built-in policy no personal value of a request stays readable."""
    policy = compile_policy(load_policy(None), KEY)
    fields: dict[str, Any] = {
        "audit.actor.id": "alice", "user.id": "alice", "user.name": "Alice L", "user.email": "alice@example.com",
        "user.roles": ["admin"], "client.address": "203.0.113.7", "source.ip": "203.0.113.7",
        "url.query": "email=alice%40example.com&token=abc", "url.path": "/users/alice", "http.route": "/users/{id}",
        "error.message": "Alice L <alice@example.com> from 203.0.113.7", "ml.change.approver": "bob",
    }  # fmt: skip
    policy.decide(Facts("audit.api.request")).redaction.apply(fields)
    text = str(fields)
    for planted in ("alice", "Alice", "203.0.113.7", "abc'", "bob", "example.com"):
        assert planted not in text
    assert fields["user.roles"] == ["admin"]
    assert fields["source.ip"] == "203.0.113.0"
    assert fields["http.route"] == "/users/{id}"
    assert fields["user.id"] == fields["audit.actor.id"]
