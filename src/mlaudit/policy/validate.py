"""Checks of a policy that depend on several values. They return issues; the caller raises or prints them.

They work on the plain values of the file, so that they also run on a file that has other faults.
"""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.catalog.names import FIELD_TYPES
from mlaudit.policy.data_selection import pattern_issues
from mlaudit.policy.globs import covers, glob_fault, has_wildcard, name_matcher
from mlaudit.policy.vocabulary import CATALOG_KINDS, CUSTOM_PREFIX, FINAL_RULE, is_own, is_protected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlaudit.safety.strict_yaml import Path


# Each entry is compared with all earlier ones, to warn of entries that are never reached; without a limit this would
# take minutes.
_COMPARED: Final = 300


class Issue(NamedTuple):
    """An issue at a place of the file; a warning does not make the policy unusable."""

    path: Path
    text: str
    warning: bool = False


def check(value: Mapping[str, Any], now: datetime) -> list[Issue]:
    """Every issue of a policy's values. ``now`` is aware; a revision may not be dated after it anywhere on Earth."""
    checks: tuple[Callable[[], Iterator[Issue]], ...] = (
        lambda: _revisions(value, now),
        lambda: _redactions(value),
        lambda: _rules(value),
        lambda: _shadowed_rules(value),
        lambda: _shadowed_routes(value),
        lambda: _models(value),
        lambda: _data(value),
        lambda: _selectors(value),
    )
    return [issue for each in checks for issue in each()]


def _revisions(value: Mapping[str, Any], now: datetime) -> Iterator[Issue]:
    latest = (now + timedelta(hours=14)).date()
    numbers: list[tuple[int, int]] = []
    dates: list[tuple[int, date]] = []
    for index, entry in _entries(value, "revisions"):
        number, text = entry.get("number"), entry.get("date")
        if type(number) is int:
            numbers.append((index, number))
        try:
            day = date.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:
            day = None
        if day is not None:
            dates.append((index, day))
            if day > latest:
                yield Issue(
                    ("revisions", index, "date"),
                    f"expected a date that is not in the future, found {day}; correct it",
                )
    if len(numbers) < 2:
        return
    ascending = numbers[-1][1] >= numbers[0][1]
    order = "ascending" if ascending else "descending"
    for (_, before), (index, after) in itertools.pairwise(numbers):
        if after == before or (after > before) != ascending:
            yield Issue(
                ("revisions", index, "number"),
                f"expected strictly {order} numbers, found {after} after {before}; number revisions in their order",
            )
    for (_, earlier), (index, later) in itertools.pairwise(dates):
        if (later < earlier) if ascending else (later > earlier):
            yield Issue(
                ("revisions", index, "date"),
                f"expected dates in the order of the numbers ({order}), found {later} after {earlier}",
            )


def _redactions(value: Mapping[str, Any]) -> Iterator[Issue]:
    places: list[tuple[Path, Mapping[str, Any]]] = [
        (("redact", index), entry) for index, entry in _entries(value, "redact")
    ]
    for number, rule in _entries(value, "rules"):
        places += [(("rules", number, "redact", index), entry) for index, entry in _entries(rule, "redact")]
    for path, entry in places:
        method = entry.get("method")
        if "keep" in entry and method in ("drop", "hmac"):
            yield Issue(
                (*path, "keep"),
                f"expected keep only with mask or truncate, found it with {method}; remove it",
            )
        patterns = _texts(entry.get("fields"))
        if patterns and all(pattern.startswith("!") for pattern in patterns):
            yield Issue(
                (*path, "fields"), "expected a pattern besides the exceptions; with none nothing is redacted"
            )
        for pattern in patterns:
            plain = pattern.removeprefix("!")
            if glob_fault(plain):
                continue
            if not has_wildcard(plain) and is_protected(plain):
                yield Issue(
                    (*path, "fields"),
                    f"expected fields that may be redacted, found {plain!r}, which every record needs",
                )
            elif not plain.startswith("labels.") and not any(map(name_matcher((plain,)), FIELD_TYPES)):
                yield Issue((*path, "fields"), f"{plain!r} matches no field of the catalog", warning=True)


def _rules(value: Mapping[str, Any]) -> Iterator[Issue]:
    first: dict[str, int] = {}
    for index, rule in _entries(value, "rules"):
        name = rule.get("name")
        if isinstance(name, str):
            if name == FINAL_RULE:
                yield Issue(
                    ("rules", index, "name"),
                    f"expected another name: {name!r} is reserved for the final rule",
                )
            if name in first:
                yield Issue(
                    ("rules", index, "name"),
                    f"expected a unique name, found {name!r} again (as rules[{first[name]}])",
                )
            first.setdefault(name, index)
        if rule.get("level") == "none":
            for key in ("redact", "guarantee", "on_failure", "retention"):
                if key in rule:
                    yield Issue(("rules", index, key), "has no effect at level none", warning=True)
            kinds = _criterion(rule, "kind") or ()
            if any(is_own(kind) for kind in kinds):
                yield Issue(
                    ("rules", index, "level"),
                    "mlaudit's own kinds are always recorded, at metadata and durable",
                    warning=True,
                )


def _shadowed_rules(value: Mapping[str, Any]) -> Iterator[Issue]:
    """Rules that can never decide, because earlier rules match all of each of their kinds."""
    earlier: list[tuple[int, Mapping[str, Any]]] = []
    custom = {
        pattern.replace("*", "\0")
        for _, rule in _entries(value, "rules")
        for pattern in _criterion(rule, "kind") or ()
        if pattern.startswith(CUSTOM_PREFIX)
    }
    universe = (*CATALOG_KINDS, *custom, f"{CUSTOM_PREFIX}\0")
    for index, rule in islice(_entries(value, "rules"), _COMPARED):
        if not _comparable(rule):
            continue
        left = _kinds(rule, universe)
        by: list[int] = []
        for number, before in earlier:
            others = ("service", "model", "actor", "route")
            if all(
                _covered(_criterion(before, name), _criterion(rule, name), name == "route") for name in others
            ):
                taken = left & _kinds(before, universe)
                if taken:
                    left -= taken
                    by.append(number)
        if not left and by:
            names = ", ".join(f"rules[{number}]" for number in by)
            yield Issue(("rules", index), f"is never reached: {names} above match all of it", warning=True)
        earlier.append((index, rule))


def _shadowed_routes(value: Mapping[str, Any]) -> Iterator[Issue]:
    earlier: list[tuple[int, tuple[str, ...] | None, str]] = []
    for index, route in islice(_entries(value, "routes"), _COMPARED):
        path, methods = route.get("path"), _criterion({"match": route}, "methods")
        if not isinstance(path, str) or glob_fault(path):
            continue
        for number, before, pattern in earlier:
            if covers(pattern, path, path=True) and (
                before is None or (methods is not None and set(methods) <= set(before))
            ):
                yield Issue(
                    ("routes", index),
                    f"is never reached: routes[{number}] above matches all of it",
                    warning=True,
                )
                break
        earlier.append((index, methods, path))


def _models(value: Mapping[str, Any]) -> Iterator[Issue]:
    for index, entry in _entries(value, "models"):
        if "name" not in entry and "path" not in entry:
            yield Issue(
                ("models", index),
                "expected a name or a path, found neither; say which model the digest is of",
            )


def _data(value: Mapping[str, Any]) -> Iterator[Issue]:
    data = value.get("data")
    if not isinstance(data, dict):
        return
    for key in ("tables", "paths"):
        for text, warning in pattern_issues(_texts(data.get(key)), paths=key == "paths"):
            yield Issue(("data", key), text, warning)


def _selectors(value: Mapping[str, Any]) -> Iterator[Issue]:
    for index, entry in _entries(value, "spans"):
        if not any(entry.get(key) for key in ("scope", "name", "attributes")):
            yield Issue(
                ("spans", index),
                "expected a scope, a name or attributes, found none: every span would be an audit event",
            )
        yield from _selected_fields(("spans", index), entry)
    for index, entry in _entries(value, "logs"):
        if not any(entry.get(key) for key in ("logger", "event_name", "attributes")):
            yield Issue(
                ("logs", index),
                "expected a logger, an event_name or attributes, found none: every log record would be an audit event",
            )
        if "kind" not in entry and "event_name" not in entry:
            yield Issue(("logs", index), "expected a kind, or an event_name to take it from, found neither")
        yield from _selected_fields(("logs", index), entry)


def _selected_fields(path: Path, entry: Mapping[str, Any]) -> Iterator[Issue]:
    fields = entry.get("fields")
    for name, target in fields.items() if isinstance(fields, dict) else ():
        if has_wildcard(name) and target != name:
            yield Issue(
                (*path, "fields", name),
                f"expected a pattern to be copied to itself ({name!r}), found {target!r}; rename fields one by one",
            )


def _entries(value: Mapping[str, Any], key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    entries = value.get(key)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield index, entry


def _texts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(item for item in items if isinstance(item, str))


def _criterion(rule: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    match = rule.get("match")
    found = match.get(name) if isinstance(match, dict) else None
    return None if found is None else _texts(found)


def _comparable(rule: Mapping[str, Any]) -> bool:
    """Whether the criteria are well-formed enough to compare what they match."""
    match = rule.get("match", {})
    if not isinstance(match, dict) or not set(match) <= {"kind", "service", "route", "model", "actor"}:
        return False
    for found in match.values():
        items = found if isinstance(found, list) else [found]
        if not items or not all(isinstance(item, str) and glob_fault(item) is None for item in items):
            return False
    return True


def _kinds(rule: Mapping[str, Any], universe: tuple[str, ...]) -> set[str]:
    patterns = _criterion(rule, "kind")
    return set(universe) if patterns is None else set(filter(name_matcher(patterns), universe))


def _covered(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None, path: bool) -> bool:
    if wide is None:
        return True
    if narrow is None:
        return any(pattern == ("**" if path else "*") for pattern in wide)
    return all(any(covers(w, n, path=path) for w in wide) for n in narrow)
