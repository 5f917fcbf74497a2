"""Compares two policies: what has changed, and above all what is recorded less.

An insider can blind an audit trail by lowering its policy, so ``audit.policy.changed`` reports it. Both policies are
evaluated on representative facts: every kind of the catalog with every combination of the texts that the rules of
either policy match on (up to a limit; then with each rule's own texts).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.catalog.names import FIELD_TYPES
from mlaudit.policy.evaluate import CRITERIA, CompiledPolicy, Decision, Facts, compile_policy
from mlaudit.policy.globs import sample
from mlaudit.policy.vocabulary import CATALOG_KINDS, CUSTOM_PREFIX, FAILURES, GUARANTEES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlaudit.policy.model import LogEntry, Policy, SpanEntry
    from mlaudit.policy.redact import Redaction

SNAPSHOT_VERSION: Final = 1
_MOST_COMBINATIONS: Final = 500
_METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")
_ANY_TEXT: Final = "\0any"  # only a wildcard matches it
_NO_KEY: Final = b"compare"  # a comparison needs no pseudonyms


class Lowered(NamedTuple):
    """One thing that is recorded less.

    ``what`` is level, guarantee, on_failure, fields, route, watch, table, path, bulk_rows, span or log.
    """

    what: str
    subject: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} was {self.before}, is {self.after}"


def snapshot(policy: Policy) -> dict[str, Any]:
    """A policy as JSON values, to be stored and compared with a later one."""
    return {"version": SNAPSHOT_VERSION, "digest": policy.digest, "policy": policy.model_dump(mode="json")}


def lowered(old: Policy | Mapping[str, Any] | None, new: Policy | Mapping[str, Any] | None) -> list[Lowered]:
    """What ``new`` records less than ``old``; each is a policy or a snapshot.

    An old snapshot that can no longer be read counts as lowered, because the opposite cannot be shown.
    """
    before, after = _policy(old), _policy(new)
    if before is None or after is None:
        return [Lowered("policy", "the policy", "unknown" if before is None else "known", "not comparable")]
    return list(dict.fromkeys(_lowered(before, after)))


def changes(old: Policy | Mapping[str, Any] | None, new: Policy | Mapping[str, Any] | None) -> list[str]:
    """What differs between two policies or snapshots, section by section, in sentences; lowered things first."""
    before, after = _policy(old), _policy(new)
    if before is None or after is None:
        return [
            "the previous policy can no longer be read" if before is None else "the policy cannot be read"
        ]
    out = [f"lowered: {entry}" for entry in lowered(before, after)]
    one, two = before.model_dump(mode="json"), after.model_dump(mode="json")
    for section in two:
        if one[section] != two[section]:
            out += _section_changes(section, one[section], two[section])
    return out


def _policy(value: Policy | Mapping[str, Any] | None) -> Policy | None:
    from pydantic import ValidationError

    from mlaudit.policy.model import Policy

    if isinstance(value, Policy):
        return value
    try:
        # Not strict: JSON has lists for tuples and texts for dates.
        return Policy.model_validate(dict(value or {})["policy"], strict=False)
    except (ValidationError, KeyError, TypeError):
        return None


def _lowered(before: Policy, after: Policy) -> Iterator[Lowered]:
    old, new = compile_policy(before, _NO_KEY), compile_policy(after, _NO_KEY)
    newly_dropped = lru_cache(maxsize=256)(_newly_dropped)  # few redactions, many facts
    reported: set[tuple[str, str, str, str]] = set()
    for facts in _representatives(before, after):
        for entry in _lowered_decision(_subject(facts), old.decide(facts), new.decide(facts), newly_dropped):
            # A difference of the kind itself is not reported again for each route and model.
            key = (facts.kind, entry.what, entry.before, entry.after)
            if key not in reported:
                reported.add(key)
                yield entry
    yield from _lowered_routes(before, after, old, new)
    for path in before.watch:
        if path not in after.watch:
            yield Lowered("watch", path, "watched", "not watched")
    yield from _lowered_data(before, after, old, new)
    yield from _lowered_selectors("span", before.spans, after.spans)
    yield from _lowered_selectors("log", before.logs, after.logs)


def _lowered_data(
    before: Policy, after: Policy, old: CompiledPolicy, new: CompiledPolicy
) -> Iterator[Lowered]:
    for what in ("table", "path"):
        patterns = [pattern for policy in (before, after) for pattern in getattr(policy.data, f"{what}s")]
        texts = dict.fromkeys(sample(pattern.removeprefix("!")) for pattern in patterns)
        was, now = getattr(old.data, what), getattr(new.data, what)
        for text in (*texts, f"/{_ANY_TEXT}" if what == "path" else _ANY_TEXT):
            if was(text) and not now(text):
                shown = f"any {what}" if _ANY_TEXT in text else f"{what} {text}"
                yield Lowered(what, shown, "recorded", "not recorded")
    one, two = before.data.bulk_rows, after.data.bulk_rows
    if one is not None and (two is None or two > one):
        yield Lowered("bulk_rows", "data in bulk", f"from {one} rows", f"from {two} rows" if two else "never")


def _lowered_selectors(
    what: str, before: Sequence[SpanEntry | LogEntry], after: Sequence[SpanEntry | LogEntry]
) -> Iterator[Lowered]:
    for selector in before:
        if selector not in after:
            kind = selector.kind or "events that name their own kind"
            yield Lowered(what, f"{what} selector of {kind}", "present", "removed or changed")


def _lowered_decision(
    subject: str, one: Decision, two: Decision, newly_dropped: Callable[[Redaction, Redaction], str]
) -> Iterator[Lowered]:
    if two.level < one.level:
        yield Lowered("level", subject, one.level.name.lower(), two.level.name.lower())
    if two.level == 0 or one.level == 0:
        return
    if GUARANTEES.index(two.guarantee) < GUARANTEES.index(one.guarantee):
        yield Lowered("guarantee", subject, one.guarantee, two.guarantee)
    if FAILURES.index(two.on_failure) < FAILURES.index(one.on_failure):
        yield Lowered("on_failure", subject, one.on_failure, two.on_failure)
    dropped = newly_dropped(one.redaction, two.redaction)
    if dropped:
        yield Lowered("fields", subject, "recorded", f"dropped ({dropped})")


def _newly_dropped(one: Redaction, two: Redaction) -> str:
    names = sorted(n for n in FIELD_TYPES if "drop" in two.methods(n) and "drop" not in one.methods(n))
    return ", ".join(names[:10])


def _lowered_routes(
    before: Policy, after: Policy, old: CompiledPolicy, new: CompiledPolicy
) -> Iterator[Lowered]:
    methods = sorted(
        {*_METHODS, *(m for p in (before, after) for route in p.routes for m in route.methods or ())}
    )
    paths = dict.fromkeys(sample(route.path) for policy in (before, after) for route in policy.routes)
    for method, path in product(methods, paths):
        one, two = old.route_kind(method, path), new.route_kind(method, path)
        if one == two or one == "":
            continue
        if two == "":
            yield Lowered("route", f"{method} {path}", one or "audited", "not audited")
        elif one is not None and two is None:
            yield Lowered("route", f"{method} {path}", one, "an ordinary request")
        elif one and two:
            was, now = old.decide(Facts(one, route=path)), new.decide(Facts(two, route=path))
            if (now.level, GUARANTEES.index(now.guarantee)) < (was.level, GUARANTEES.index(was.guarantee)):
                yield Lowered("route", f"{method} {path}", one, two)


def _representatives(before: Policy, after: Policy) -> Iterator[Facts]:
    rules = (*before.rules, *after.rules)
    kinds = dict.fromkeys(
        (
            *CATALOG_KINDS,
            f"{CUSTOM_PREFIX}any",
            *(sample(p) for rule in rules for p in rule.match.kind or () if p.startswith(CUSTOM_PREFIX)),
        )
    )
    texts = {
        name: list(dict.fromkeys((
            "", _ANY_TEXT, *(sample(p) for rule in rules for p in getattr(rule.match, name) or ())
        )))
        for name in CRITERIA[1:]
    }  # fmt: skip
    unused = [name for name, found in texts.items() if len(found) == 2]
    for name in unused:
        texts[name] = [""]
    total = 1
    for found in texts.values():
        total *= len(found)
    if total <= _MOST_COMBINATIONS:
        combinations = list(product(*texts.values()))
    else:
        combinations = [("", "", "", ""), (_ANY_TEXT,) * 4]
        for rule in rules:
            own = [[sample(p) for p in getattr(rule.match, name) or ()][:8] or [""] for name in CRITERIA[1:]]
            combinations += product(*own)
    for kind, combination in product(kinds, dict.fromkeys(combinations)):
        yield Facts(kind, *combination)


def _subject(facts: Facts) -> str:
    criteria = [
        f"{name} {value}" for name, value in zip(CRITERIA[1:], facts[1:], strict=True) if value.strip("\0")
    ]
    criteria = [text for text in criteria if _ANY_TEXT not in text]
    return f"{facts.kind} ({', '.join(criteria)})" if criteria else facts.kind


def _section_changes(section: str, one: Any, two: Any) -> Iterator[str]:
    if not (isinstance(one, list) and isinstance(two, list)):
        yield f"{section} changed"
        return
    if section == "revisions":
        known = [entry["number"] for entry in one]
        for entry in two:
            if entry["number"] not in known:
                yield f"revision {entry['number']} of {entry['date']}: {'; '.join(entry['changes'])}"
            elif entry not in one:
                yield f"revision {entry['number']} rewritten"
        yield from (f"revision {n} removed" for n in known if n not in [entry["number"] for entry in two])
        return
    if section == "rules":
        before = {entry["name"]: entry for entry in one}
        after = {entry["name"]: entry for entry in two}
        yield from (f"rule {name!r} added" for name in after if name not in before)
        yield from (f"rule {name!r} removed" for name in before if name not in after)
        both = [name for name in after if name in before]
        yield from (f"rule {name!r} changed" for name in both if before[name] != after[name])
        if [name for name in before if name in after] != both:
            yield "rules reordered"
        return
    added = [entry for entry in two if entry not in one]
    removed = [entry for entry in one if entry not in two]
    yield from (f"{section}: added {_short(entry)}" for entry in added)
    yield from (f"{section}: removed {_short(entry)}" for entry in removed)
    if not added and not removed:
        yield f"{section} reordered"


def _short(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    return ", ".join(f"{key} {value}" for key, value in entry.items() if value not in (None, {}, []))[:300]
