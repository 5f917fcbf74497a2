"""Loading a policy file."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlaudit.errors import PolicyError
from mlaudit.policy.load import describe, inspect_policy, load_policy, parse_policy
from mlaudit.policy.model import Policy

GOLDEN = Path(__file__).parents[2] / "golden" / "policy"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HEAD = """version: 1
revisions:
  - {number: 1, date: 2026-01-01, changes: c, reason: r, sections: [3]}
"""
RULES = "rules:\n  - {name: a, level: metadata}\n"


def faults(text: str) -> tuple[str, ...]:
    """The faults of a policy whose head is valid."""
    return inspect_policy(HEAD + text, now=NOW).faults


def test_every_fault_of_a_broken_file_is_listed_at_once() -> None:
    """A very broken file gives exactly the faults of the golden file, each with its line."""
    found = inspect_policy((GOLDEN / "broken.yaml").read_bytes(), now=NOW)
    text = "".join(f"{line}\n" for line in (*found.faults, *(f"warning: {w}" for w in found.warnings)))
    expected = GOLDEN / "broken.txt"
    if os.environ.get("MLAUDIT_REGENERATE_GOLDEN"):
        expected.write_text(text, "utf-8")
    assert text == expected.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: rules: is missing; expected a list of rules"),
        (
            "rules: [{name: a, level: metadata, levle: x}]",
            "line 4: rules[0].levle: unknown key (did you mean 'level'?)",
        ),
        ("rules: []\nrules: []", "line 5: rules: duplicate key, first given in line 4"),
        ("rules:\n  - name: a\n    level: full\n    level: none", "line 7: rules[0].level: duplicate key"),
        (
            "rules: [{name: a, level: 2}]",
            "line 4: rules[0].level: expected none, metadata, inputs or full, found 2",
        ),
        ("rules: {a: b}", "line 4: rules: expected a list of rules, found {'a': 'b'}"),
        (
            "rules: [{name: a, level: full, match: {kind: audit.ml.predict}}]",
            "did you mean 'audit.ml.prediction'?",
        ),
        (
            "rules: [{name: a, level: full, match: {kind: 'nothing.*'}}]",
            "found 'nothing.*' that matches none",
        ),
        ("rules: [{name: a, level: full, match: {kind: []}}]", "expected at least one entry"),
        ("rules: [{name: a, level: full, match: {route: ''}}]", "expected a pattern, found an empty text"),
        ("rules: [{name: built-in, level: full}]", "expected another name"),
        ("rules: [{name: a, level: full}, {name: a, level: none}]", "found 'a' again (as rules[0])"),
        ("rules: &a []", None),
        ("rules: []\nwatch: &a [/x]\nroutes: *a", "line 6: routes: anchors and aliases are not supported"),
        ("rules: !!python/name:os.system []", "tags are not supported"),
        ("rules: []\nwatch: [relative.yaml]", "expected a path that starts with / or *"),
        ("rules: []\nroutes: [{path: /x, kind: audit.policy.loaded}]", "which only mlaudit records"),
        ("rules: []\nspans: [{name: x, kind: audit.stream.started}]", "which only mlaudit records"),
        (
            "rules: []\nspans: [{name: x, kind: audit.api.request, fields: {a: audit.outcome}}]",
            "mlaudit writes itself",
        ),
        ("rules: []\nspans: [{name: x, kind: audit.api.request, fields: {'a.*': b}}]", "copied to itself"),
        (
            "rules: []\nlogs: [{severity: warn, kind: audit.api.request}]",
            "every log record would be an audit event",
        ),
        ("rules: []\nmodels: [{digest: 'sha256:" + "a" * 64 + "'}]", "expected a name or a path"),
        ("rules: []\nmodels: [{name: m, digest: 'sha256:ABC'}]", "sha256: and 64 lower-case hex digits"),
        ("rules: []\nredact: [{fields: audit.kind, method: drop}]", "which every record needs"),
        ("rules: []\nredact: [{fields: user.id, method: hmac, keep: 3}]", "keep only with mask or truncate"),
        (
            "rules: []\nredact: [{fields: user.id, method: mask, keep: -1}]",
            "expected how many characters stay",
        ),
        ("rules: []\nredact: [{fields: '!user.id', method: hmac}]", "with none nothing is redacted"),
        (
            "rules: []\nchange: {windows: [{days: mon, start: 24:01, end: 10:00, timezone: UTC}]}",
            "found '24:01'",
        ),
        (
            "rules: []\nchange: {windows: [{days: mon, start: 08:00, end: 10:00, timezone: Moon}]}",
            "found 'Moon'",
        ),
        ("rules: []\nchange: {ticket_header: 'a b'}", "expected the name of an HTTP header"),
        ("rules: {{", "not YAML"),
        ("rules: [\x07]", "not YAML"),
    ],
)
def test_a_fault_says_its_line_and_what_was_expected(text: str, expected: str | None) -> None:
    """One fault in an otherwise valid file is named; a harmless oddity is not a fault."""
    found = faults(text)
    if expected is None:
        assert found == ()
    else:
        assert any(expected in fault for fault in found), found


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ((1,), None),
        ((1, 2, 5), None),
        ((5, 2, 1), None),
        ((1, 1), "strictly ascending numbers, found 1 after 1"),
        ((1, 3, 2), "strictly ascending numbers, found 2 after 3"),
        ((3, 1, 2), "strictly descending numbers, found 2 after 1"),
        ((0,), "whole number from 1"),
    ],
)
def test_revisions_are_numbered_in_one_direction(numbers: tuple[int, ...], fault: str | None) -> None:
    """Revisions are ordered newest first or newest last, strictly and without repetition."""
    entries = "".join(
        f"  - {{number: {n}, date: 2026-01-01, changes: c, reason: r, sections: [3]}}\n" for n in numbers
    )
    found = inspect_policy(f"version: 1\nrevisions:\n{entries}{RULES}", now=NOW).faults
    assert (fault is None and found == ()) or (fault is not None and any(fault in text for text in found))


@pytest.mark.parametrize(
    ("day", "ok"), [("2026-11-25", True), ("2026-11-26", True), ("2026-11-27", False), ("x", False)]
)
def test_a_revision_is_not_dated_in_the_future(day: str, ok: bool) -> None:
    """A date that has begun nowhere on Earth is a fault; noon UTC is already tomorrow east of UTC+12."""
    text = f"version: 1\nrevisions: [{{number: 1, date: {day}, changes: c, reason: r, sections: ['3']}}]\n{RULES}"
    assert (inspect_policy(text, now=NOW).faults == ()) is ok


@pytest.mark.parametrize("missing", ["number", "date", "changes", "reason", "sections"])
def test_a_revision_needs_each_of_its_parts(missing: str) -> None:
    """The five parts of section 9 are all required, and none may be empty."""
    parts = {"number": "1", "date": "2026-01-01", "changes": "c", "reason": "r", "sections": "'3'"}
    for value in (None, '""'):
        given = {**parts, missing: value} if value else {k: v for k, v in parts.items() if k != missing}
        text = ", ".join(f"{k}: {v}" for k, v in given.items())
        found = inspect_policy(f"version: 1\nrevisions: [{{{text}}}]\n{RULES}", now=NOW).faults
        assert any(f"revisions[0].{missing}" in fault for fault in found)


def test_a_user_policy_needs_its_revision_history() -> None:
    """Without revisions, or with an empty list of them, a policy is not loaded."""
    for text in ("version: 1\n" + RULES, "version: 1\nrevisions: []\n" + RULES):
        with pytest.raises(PolicyError, match="revisions"):
            parse_policy(text, "policy.yaml", now=NOW)


def test_sections_left_out_are_those_of_the_built_in_policy() -> None:
    """Omitting redact or routes does not weaken a policy; an empty list turns them off."""
    default = load_policy(None)
    policy = parse_policy(HEAD + RULES, "p", now=NOW)
    assert (policy.redact, policy.routes, policy.scrub) == (default.redact, default.routes, default.scrub)
    assert (policy.spans, policy.logs) == (default.spans, default.logs)
    assert parse_policy(HEAD + RULES + "redact: []\nroutes: []\n", "p", now=NOW).redact == ()


def test_times_and_dates_stay_as_written() -> None:
    """YAML 1.1 would read 22:00 as a number, on as true and 2026-01-01 as a date; here they are text."""
    text = HEAD + RULES + "change: {windows: [{days: [sat], start: 22:00, end: 04:30, timezone: UTC}]}\n"
    window = parse_policy(text, "p", now=NOW).change.windows[0]
    assert (window.start, window.end) == ("22:00", "04:30")


def test_the_digest_ignores_layout_and_comments() -> None:
    """Two files with the same content have one digest; a file with other content has another."""
    one = parse_policy(HEAD + RULES, "p", now=NOW)
    two = parse_policy("# comment\n" + HEAD + "rules:\n- level: metadata\n  name: 'a'\n", "q", now=NOW)
    other = parse_policy(HEAD + RULES.replace("metadata", "full"), "p", now=NOW)
    assert one.digest == two.digest
    assert one.digest != other.digest


def test_an_unreadable_file_is_a_policy_error(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are not UTF-8 give errors that say what was expected."""
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "absent.yaml")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path)
    broken = tmp_path / "latin1.yaml"
    broken.write_bytes(b"version: 1\nname: \xe9\n")
    with pytest.raises(PolicyError, match="line 2: expected UTF-8, found byte 0xe9"):
        load_policy(broken)


def test_a_good_file_loads(tmp_path: Path) -> None:
    """A file with a byte order mark and only the required keys is a policy of revision 1."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + RULES).encode())
    assert load_policy(path, now=NOW).revision == 1


@pytest.mark.parametrize(
    ("rules", "unreachable"),
    [
        (("{}", "{}"), (1,)),
        (("{kind: audit.ml.*}", "{kind: audit.ml.prediction}"), (1,)),
        (("{kind: audit.ml.prediction}", "{kind: audit.ml.*}"), ()),
        (("{route: /a/**}", "{route: /a/b}"), (1,)),
        (("{route: /a/*}", "{route: /a/b/c}"), ()),
        (("{service: x}", "{kind: audit.ml.prediction}"), ()),
        (("{kind: 'audit.*'}", "{kind: audit.app.pay}"), (1,)),
        (("{kind: audit.app.pay}", "{kind: 'audit.app.*'}"), ()),
        (
            (
                "{kind: audit.host.maintenance}",
                "{kind: 'audit.host.[hr]*'}",
                "{kind: 'audit.host.*'}",
            ),
            (2,),
        ),
        (("{service: 'a*'}", "{service: [ab, b]}"), ()),
        (("{service: 'a*'}", "{service: [ab, ac], model: m}"), (1,)),
    ],
)
def test_a_rule_that_is_never_reached_is_a_warning(
    rules: tuple[str, ...], unreachable: tuple[int, ...]
) -> None:
    """A rule whose every event an earlier rule matches gives a warning, and the policy still loads."""
    text = (
        HEAD
        + "rules:\n"
        + "".join(f"  - {{name: r{n}, level: metadata, match: {match}}}\n" for n, match in enumerate(rules))
    )
    found = inspect_policy(text, now=NOW)
    assert found.policy is not None
    warned = {
        n for n in range(len(rules)) if any(f"rules[{n}]: is never reached" in w for w in found.warnings)
    }
    assert warned == set(unreachable)


def test_a_route_that_is_never_reached_and_an_unknown_field_are_warnings() -> None:
    """Both are likely mistakes, but harmless ones."""
    found = inspect_policy(
        HEAD + RULES + "redact: [{fields: user.nmae, method: drop}]\n"
        "routes:\n  - {path: /a/**, kind: none}\n  - {path: /a/b, kind: audit.api.request}\n",
        now=NOW,
    )
    assert found.policy is not None
    assert [w.split(": ", 1)[1] for w in found.warnings] == [
        "redact[0].fields: 'user.nmae' matches no field of the catalog",
        "routes[1]: is never reached: routes[0] above matches all of it",
    ]


def test_every_key_says_what_it_expects() -> None:
    """Each key of the file format has the text that completes a fault's "expected …"."""
    assert [place for place, _, expected in describe(Policy) if not expected] == []
