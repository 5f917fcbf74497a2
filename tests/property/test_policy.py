"""What must hold of the policy stage for every input."""

from __future__ import annotations

import copy
import ipaddress
import json
import string
from typing import Any
from urllib.parse import quote

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mlaudit.errors import PolicyError
from mlaudit.policy.compare import lowered, snapshot
from mlaudit.policy.evaluate import CRITERIA, Facts, Level, compile_policy
from mlaudit.policy.load import built_in_text, load_policy, parse_policy
from mlaudit.policy.methods import Pseudonyms, mask, truncate, truncate_ip
from mlaudit.policy.model import Policy
from mlaudit.policy.redact import Redaction, RedactionRule
from mlaudit.policy.scrub import Scrubber
from mlaudit.policy.vocabulary import CATALOG_KINDS, FINAL_RULE, LEVELS, default_guarantee, is_own

KEY = b"0123456789abcdef0123456789abcdef"
SECRETS = (
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "Bearer mF_9.B5f-4.1JqM",
    "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "378282246310005",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    "postgres://app:hunter2pass@db.internal/ml",
    "alice.liddell@example.com",
)
SECRET_PARTS = (
    "AKIAIOSFODNN7EXAMPLE", "dozjgNryP4J3jVmNHl0w5N", "mF_9.B5f-4.1JqM", "4111 1111 1111 1111", "5500-0000-0000-0004",
    "378282246310005", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "MIIEpAIBAAKCAQEA", "hunter2pass",
    "alice.liddell",
)  # fmt: skip
SECRET_KEYS = (
    "password", "db_passwd", "clientSecret", "api_key", "X-Api-Key", "Authorization", "set-cookie", "privateKey",
    "access_token", "AWS_SECRET_ACCESS_KEY", "refreshToken", "passphrase", "dsn", "session_key",
)  # fmt: skip
PLANTED = "zq7Kw_planted_value_93xj"

words = st.sampled_from(("POST", "the request", "model fraud", "x", "", "1.5", "a,b", "(", "é"))
plain = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(0, 1), words)
pairs = st.integers(0, len(SECRETS) - 1)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value with ``inner`` somewhere inside lists and mappings."""
    return st.recursive(
        inner,
        lambda child: st.one_of(
            st.tuples(child, st.lists(plain, max_size=2)).map(lambda two: [*two[1], two[0]]),
            st.tuples(st.sampled_from("abcd"), child, plain).map(lambda t: {"z": t[2], t[0]: t[1]}),
            child.map(lambda value: (value,)),
            child.map(lambda value: json.dumps(value)),
        ),
        max_leaves=6,
    )


def fresh() -> Redaction:
    """A redaction without rules of its own: only what always happens."""
    return Redaction((), Pseudonyms(KEY), Scrubber(KEY))


def everything(value: Any) -> str:
    """All of a value as text, in two notations."""
    return json.dumps(value, default=str, ensure_ascii=False) + str(value)


@given(
    number=pairs,
    before=words,
    after=words,
    name=st.sampled_from(
        ("message", "error.message", "error.stack_trace", "url.query", "http.request.body.content",
         "ml.prediction.input", "labels", "labels.note", "app.custom", "ml.training.parameters", "ml.config.changes")
    ),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_no_known_secret_shape_passes_in_any_nesting(
    number: int, before: str, after: str, name: str, data: st.DataObject
) -> None:
    """A value of a known secret shape never leaves free text, nested values or JSON inside text."""
    text = " ".join(part for part in (before, SECRETS[number], after) if part)
    value = data.draw(nested(st.just(text)))
    fields = {name: value, "http.request.method": "POST"}
    original = copy.deepcopy(value)
    fresh().apply(fields)
    assert SECRET_PARTS[number] not in everything(fields)
    assert value == original, "the application's own value was changed"


@given(
    key=st.sampled_from(SECRET_KEYS), data=st.data(), shape=st.sampled_from(("dict", "text", "pair", "named"))
)
@settings(max_examples=400, deadline=None)
def test_no_value_under_a_secret_key_passes_in_any_nesting(key: str, data: st.DataObject, shape: str) -> None:
    """A value under a key that names a secret never leaves, in any notation."""
    leaf: Any = {
        "dict": {key: PLANTED, "n": 1},
        "pair": [key, PLANTED],
        "named": {"name": key, "value": PLANTED},
        "text": f"call with {key}={PLANTED} failed",
    }[shape]
    value = data.draw(nested(st.just(leaf)))
    for name in ("ml.training.parameters", "http.request.body.content", "error.message", "labels"):
        fields = {name: value}
        fresh().apply(fields)
        assert PLANTED not in everything(fields)


@given(key=st.sampled_from(SECRET_KEYS), other=words)
def test_no_secret_passes_in_a_query_string(key: str, other: str) -> None:
    """A query string loses the values of secret parameters, percent-encoded or not."""
    for text in (f"{key}={PLANTED}", f"{quote(key)}={quote(PLANTED)}", quote(json.dumps({key: PLANTED}))):
        fields = {"url.query": f"a={quote(other)}&{text}&b=1"}
        fresh().apply(fields)
        assert PLANTED not in fields["url.query"]


@given(text=st.text(max_size=300), emails=st.booleans())
@settings(max_examples=300, deadline=None)
def test_scrubbing_is_stable(text: str, emails: bool) -> None:
    """Scrubbing never raises, and a second scrubbing does not change the result."""
    scrubber = Scrubber(KEY, emails=emails)
    once = scrubber.text(text)
    assert scrubber.text(once) == once


@given(
    value=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just(object())),
        lambda child: st.one_of(
            st.lists(child, max_size=3), st.dictionaries(st.text(), child, max_size=3), st.tuples(child), st.just({1})
        ),
    ),
    method=st.sampled_from(("drop", "mask", "hmac", "truncate")),
    name=st.sampled_from(("user.id", "source.ip", "audit.actor.id", "labels.x", "error.message", "labels")),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_redaction_never_raises_and_never_passes_foreign_objects(value: Any, method: str, name: str) -> None:
    """Any value becomes a JSON-like value, and the caller's value is unchanged."""
    redaction = Redaction((RedactionRule(("*",), method, 3),), Pseudonyms(KEY), Scrubber(KEY))
    fields = {name: value}
    redaction.apply(fields)
    stack = list(fields.values())
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        else:
            assert item is None or isinstance(item, (str, int, float))


@given(text=st.text(min_size=1), other=st.text(min_size=1))
def test_pseudonyms_are_stable_keyed_and_distinct(text: str, other: str) -> None:
    """The same text gives the same pseudonym under one key, another under another key, and never shows itself."""
    one, again, foreign = Pseudonyms(KEY), Pseudonyms(KEY), Pseudonyms(KEY + b"x")
    assert one.of(text) == again.of(text)
    assert one.of(text) != foreign.of(text)
    assert one.of(text).split(":")[1] != foreign.of(text).split(":")[1]
    assert (one.of(text) == one.of(other)) == (text == other)
    assert len(one.of(text)) == len("hmac:") + 8 + 1 + 32


@given(address=st.ip_addresses())
def test_a_truncated_address_is_the_address_of_its_network(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Truncating gives a valid address whose network holds the original, and is stable."""
    text = truncate(str(address), 4)
    found = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    assert found.version == address.version
    length = 24 if found.version == 4 else 48
    assert address in ipaddress.ip_network(f"{found}/{length}")
    assert truncate_ip(text) == text


@given(text=st.text(), keep=st.integers(0, 40))
def test_truncating_and_masking_keep_no_more_than_asked(text: str, keep: int) -> None:
    """At most ``keep`` characters of a text stay, and a mask never shows half of a text or more."""
    assume(truncate_ip(text) is None)
    cut = truncate(text, keep)
    assert cut == text if len(text) <= keep else cut == text[:keep] + "…"
    shown = mask(text, keep).removeprefix("***")
    assert text.endswith(shown)
    assert len(shown) <= keep
    assert not shown or len(shown) * 2 < len(text)


patterns = st.sampled_from(
    (
        "*",
        "a",
        "a*",
        "*b",
        "ab",
        "?",
        "[ab]",
        "[!a]b",
        "/x",
        "/x/*",
        "/x/**",
        "**",
        "/**/y",
        "/x/*/y",
        "x.y",
        "é",
    )
)
kinds = st.sampled_from(
    (
        "*",
        "audit.ml.*",
        "audit.ml.prediction",
        "audit.app.*",
        "audit.app.pay",
        "audit.*",
        "audit.access.denied",
    )
)
values = st.sampled_from(("", "a", "ab", "b", "cb", "/x", "/x/", "/x/z", "/x/z/y", "/y", "x.y", "é", "A"))
rules = st.lists(
    st.fixed_dictionaries(
        {"level": st.sampled_from(LEVELS)},
        optional={
            "kind": st.lists(kinds, min_size=1, max_size=2),
            **{name: st.lists(patterns, min_size=1, max_size=2) for name in CRITERIA[1:]},
        },
    ),
    min_size=0,
    max_size=6,
)
facts = st.builds(
    Facts,
    kind=st.sampled_from((*CATALOG_KINDS, "audit.app.pay", "audit.app.other")),
    service=values,
    route=values,
    model=values,
    actor=values,
)


def make_policy(drawn: list[dict[str, Any]]) -> Policy:
    """A policy with these rules, named r0, r1, ..."""
    return Policy.model_validate({
        "version": 1,
        "revisions": [{"number": 1, "date": "2026-01-01", "changes": "c", "reason": "r", "sections": ["3"]}],
        "rules": [
            {"name": f"r{n}", "level": rule["level"], "match": {k: v for k, v in rule.items() if k != "level"}}
            for n, rule in enumerate(drawn)
        ],
    })  # fmt: skip


def matches_naively(pattern: str, value: str, *, path: bool) -> bool:
    """A second implementation of the patterns, by recursion instead of regular expressions."""
    if not pattern:
        return not value
    if path and pattern == "/**":
        return not value or value.startswith("/")
    if pattern.startswith("**") and path:
        return any(matches_naively(pattern[2:], value[n:], path=path) for n in range(len(value) + 1))
    if pattern[0] == "*":
        limit = next((n for n, char in enumerate(value) if char == "/"), len(value)) if path else len(value)
        return any(matches_naively(pattern[1:], value[n:], path=path) for n in range(limit + 1))
    if not value:
        return False
    if pattern[0] == "[":
        body, _, rest = pattern[1:].partition("]")
        inside = value[0] in body.lstrip("!") and not (path and value[0] == "/")
        negated = body.startswith("!") and not (path and value[0] == "/")
        return inside != negated and matches_naively(rest, value[1:], path=path)
    fits = pattern[0] == value[0] or (pattern[0] == "?" and not (path and value[0] == "/"))
    return fits and matches_naively(pattern[1:], value[1:], path=path)


@given(drawn=rules, asked=st.lists(facts, min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_decide_equals_naive_evaluation(drawn: list[dict[str, Any]], asked: list[Facts]) -> None:
    """The first rule whose criteria all match decides, whatever was decided before; else the final rule."""
    policy = compile_policy(make_policy(drawn), KEY)
    for one in (*asked, *asked):
        expected = FINAL_RULE
        level = Level.METADATA
        for n, rule in enumerate(drawn):
            if all(
                any(matches_naively(p, getattr(one, name), path=name == "route") for p in rule[name])
                for name in CRITERIA
                if name in rule
            ):
                expected, level = f"r{n}", Level[rule["level"].upper()]
                break
        decision = policy.decide(one)
        assert decision.rule == expected
        assert decision.level == (max(level, Level.METADATA) if is_own(one.kind) else level)
        assert decision.guarantee == default_guarantee(one.kind)


@given(drawn=rules)
@settings(max_examples=25, deadline=None)
def test_no_policy_is_lower_than_itself(drawn: list[dict[str, Any]]) -> None:
    """A policy, and its snapshot after a trip through JSON, record nothing less than the policy."""
    policy = make_policy(drawn)
    assert lowered(policy, policy) == []
    assert lowered(json.loads(json.dumps(snapshot(policy))), policy) == []


@given(drawn=rules, number=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_switching_a_reached_kind_off_is_always_noticed(drawn: list[dict[str, Any]], number: int) -> None:
    """A rule on top that records nothing of a kind is reported whenever the kind was recorded."""
    kind = CATALOG_KINDS[number]
    before = make_policy(drawn)
    after = make_policy([{"level": "none", "kind": [kind]}, *drawn])
    was = compile_policy(before, KEY).decide(Facts(kind)).level
    found = {entry.subject.split(" ")[0] for entry in lowered(before, after) if entry.what == "level"}
    if was > Level.NONE and not is_own(kind):
        assert kind in found


def faults_of(content: str | bytes) -> tuple[str, ...] | None:
    """The faults of a policy's content, or None when it loads and compiles."""
    try:
        compile_policy(parse_policy(content, "fuzz"), KEY)
    except PolicyError as error:
        return error.faults
    return None


yaml_like = st.text(
    alphabet=string.ascii_lowercase + " \n\t:-[]{},#&*!|>'\"%@`?\\0é\x00\x85\ufeff", max_size=200
)


@given(text=st.one_of(st.text(max_size=200), yaml_like, st.binary(max_size=200)))
@example("a: &a [*a]")
@example("rules: !!python/object/apply:os.system [id]")
@example("[" * 5000)
@example("{a: " * 3000)
@example("? [1]\n: 2")
@example("a: b\n---\nc: d")
@settings(max_examples=500, deadline=None)
def test_the_loader_raises_nothing_but_policy_errors(text: str | bytes) -> None:
    """Any content is a policy or a PolicyError with at least one fault that names a line."""
    faults = faults_of(text)
    assert faults is None or (faults and all(fault.startswith("line ") for fault in faults))


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_policy_is_refused_or_still_a_policy(data: st.DataObject) -> None:
    """The built-in policy with a piece cut out or put in is refused with reasons, or loads."""
    text = built_in_text()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    damaged = (
        text[:start] + data.draw(st.sampled_from(("", " ", ":", "- ", "[", "7", "x: y\n", '"'))) + text[stop:]
    )
    assert faults_of(damaged) != ()


def test_the_built_in_policy_loads() -> None:
    """The built-in policy is valid."""
    assert load_policy(None).rules
