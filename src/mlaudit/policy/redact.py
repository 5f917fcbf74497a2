"""Redacts the values of a record, before the record is encoded.

Each set of field names is compiled once into a plan; applying a plan to a record of a usual shape takes a few dict
operations. Redaction fails closed: a value whose redactor fails is dropped and its name is recorded.

Steps, numbered in the code: 1. the policy's and the rule's redactions apply in order, each to the result of the
previous one, and fields whose name indicates a secret are dropped; 2. redacted values are replaced wherever they occur
in the record's free text; 3. secrets in free text are removed; 4. the same for nested values.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlaudit.catalog.names import LIST_FIELDS
from mlaudit.policy.globs import Matcher, name_matcher
from mlaudit.policy.methods import DROPPED, Pseudonyms, Redactor, chain, drop, redactor
from mlaudit.policy.secrets import REMOVED
from mlaudit.policy.vocabulary import (
    REQUIRED_FIELDS,
    is_free_text,
    is_ip_field,
    is_known_field,
    is_protected,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlaudit.policy.scrub import Scrubber

FAILED_FIELD: Final = "audit.redaction.failed"
_MAX_PLANS: Final = 512
_MAX_SHAPE: Final = 16 << 10  # characters of its names
_SHORTEST_REPLACED: Final = 3
_FLAT: Final = frozenset({str, int, float, bool})


class RedactionRule(NamedTuple):
    """One redaction of the policy; a field pattern that starts with ``!`` is an exception."""

    fields: tuple[str, ...]
    method: str
    keep: int | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """The redaction of records with one set of field names.

    ``redactors``: name, redactor for a text, redactor for any value, and whether its values are then searched for in
    free text. ``texts``: the free-text fields. ``scalars`` gets the values of fields that are not lists in the
    catalog, ``lists`` are those that are; together they show quickly that nothing is nested.
    """

    redactors: tuple[tuple[str, Redactor, Redactor, bool], ...]
    texts: tuple[tuple[str, Callable[[str], str]], ...]
    scalars: Callable[[dict[str, Any]], Any]
    lists: tuple[str, ...]


class Redaction:
    """The compiled redactions of one rule. ``apply`` is safe to call from any thread."""

    __slots__ = ("_compiled", "_plans", "_pseudonyms", "_scrubber")

    def __init__(self, rules: Iterable[RedactionRule], pseudonyms: Pseudonyms, scrubber: Scrubber) -> None:
        """Take the redactions in order, and the objects that the whole policy shares."""
        self._pseudonyms = pseudonyms
        self._scrubber = scrubber
        self._compiled = tuple((_field_matcher(rule.fields), rule) for rule in rules)
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def apply(self, fields: dict[str, Any]) -> Sequence[str]:
        """Redact the fields of a record in place; nested values are replaced, never changed.

        Returns:
            The names of the fields that were dropped because their redactor failed, which the record also
            carries as ``audit.redaction.failed``; empty when none failed. Never raises.
        """
        shape = tuple(fields)
        try:
            plan = self._plans.get(shape) or self._remember(shape)
        except Exception:  # noqa: BLE001  without a plan only the required fields pass
            return _drop_all(fields)
        failed: list[str] = []
        replaced: dict[str, str] = {}
        dropped = False
        for name, redact_text, redact, searched in plan.redactors:  # step 1
            before = fields[name]
            try:
                if before.__class__ is str:
                    after = redact_text(before)
                    if searched and len(before) >= _SHORTEST_REPLACED:
                        replaced[before] = after if after.__class__ is str else REMOVED
                else:
                    after = redact(before)
                    if searched:
                        _note(before, after, replaced)
            except Exception:  # noqa: BLE001  the original must not pass after any failure
                after = DROPPED
                failed.append(name)
            if after is not DROPPED:
                fields[name] = after
            else:
                dropped = True
                _remove(fields, name)
        for name, scrub in plan.texts:
            text = fields.get(name)
            if text.__class__ is str:
                try:
                    for raw in replaced:  # step 2
                        if raw in text:
                            text = _replace_word(text, raw, replaced[raw])
                    fields[name] = scrub(text)  # step 3
                except Exception:  # noqa: BLE001
                    dropped = True
                    _remove(fields, name)
                    failed.append(name)
        if dropped or not _is_unnested(plan, fields):
            for name in [name for name, value in fields.items() if not _is_plain(name, value)]:  # step 4
                try:
                    fields[name] = _replace(self._scrubber.nested(fields[name]), replaced)
                except Exception:  # noqa: BLE001
                    _remove(fields, name)
                    failed.append(name)
        if failed:
            fields[FAILED_FIELD] = sorted(set(failed))
        return failed

    def methods(self, name: str) -> tuple[str, ...]:
        """The methods that apply to a field, in order; for explaining and comparing policies."""
        if is_protected(name):
            return ()
        return tuple(rule.method for matches, rule in self._compiled if matches(name))

    def _remember(self, shape: tuple[str, ...]) -> _Plan:
        plan = self._make_plan(shape)
        if sum(map(len, shape)) <= _MAX_SHAPE:
            if (
                len(self._plans) >= _MAX_PLANS
            ):  # labels create new shapes without limit: clear instead of growing
                self._plans.clear()
            self._plans[shape] = plan
        return plan

    def _make_plan(self, shape: tuple[str, ...]) -> _Plan:
        redactors: list[tuple[str, Redactor, Redactor, bool]] = []
        texts: list[tuple[str, Callable[[str], str]]] = []
        free = {name for name in shape if is_free_text(name)}
        for name in shape:
            steps = self._steps(name, free_text=name in free)
            if steps:
                whole = chain(steps)
                on_text: Redactor = getattr(whole, "on_text", whole)
                redactors.append((name, on_text, whole, bool(free) and name not in free))
            if name in free:
                texts.append((name, self._scrubber.query if name == "url.query" else self._scrubber.text))
        lists = tuple(name for name in shape if name in LIST_FIELDS and name not in free)
        scalars = [name for name in shape if name not in lists]
        # itemgetter returns a tuple only for two or more names
        getter = (
            itemgetter(*scalars) if len(scalars) > 1 else lambda fields: [fields[name] for name in scalars]
        )
        return _Plan(tuple(redactors), tuple(texts), getter, lists)

    def _steps(self, name: str, *, free_text: bool) -> list[Redactor]:
        if is_protected(name):
            return []
        if not is_known_field(name) and (self._scrubber.is_secret(name) or self._scrubber.text(name) != name):
            return [drop]
        rules = [rule for matches, rule in self._compiled if matches(name)]
        steps = [
            redactor(rule.method, rule.keep, self._pseudonyms, is_ip=is_ip_field(name)) for rule in rules
        ]
        if steps and free_text and rules[0].method in ("mask", "truncate"):
            # Before a text is cut: half a secret would not be recognised.
            steps.insert(0, self._scrubber.nested)
        return steps


def _drop_all(fields: dict[str, Any]) -> Sequence[str]:
    failed = [
        name for name in fields if not (isinstance(name, str) and is_protected(name) and name != "message")
    ]
    for name in failed:
        _remove(fields, name)
    fields[FAILED_FIELD] = sorted(map(str, failed))
    return failed


def _remove(fields: dict[str, Any], name: str) -> None:
    if name in REQUIRED_FIELDS:
        fields[name] = REMOVED
    else:
        del fields[name]


def _field_matcher(patterns: tuple[str, ...]) -> Matcher:
    wanted = name_matcher(tuple(pattern for pattern in patterns if not pattern.startswith("!")))
    exceptions = tuple(pattern[1:] for pattern in patterns if pattern.startswith("!"))
    if not exceptions:
        return wanted
    unwanted = name_matcher(exceptions)
    return lambda name: wanted(name) and not unwanted(name)


def _is_unnested(plan: _Plan, fields: dict[str, Any]) -> bool:
    if not _FLAT.issuperset(map(type, plan.scalars(fields))):
        return False
    for name in plan.lists:
        value = fields[name]
        if value.__class__ not in _FLAT and not _is_flat_list(value):
            return False
    return True


def _is_plain(name: str, value: Any) -> bool:
    """Whether a value needs no check of nested values; lists of identifiers are redacted by the field's name."""
    if value.__class__ in _FLAT:
        return True
    return is_known_field(name) and not is_free_text(name) and _is_flat_list(value)


def _is_flat_list(value: Any) -> bool:
    if value.__class__ is not list:
        return False
    for item in value:  # noqa: SIM110  a loop, not all(): a generator costs more than the few items
        if item.__class__ not in _FLAT:
            return False
    return True


def _note(before: Any, after: Any, replaced: dict[str, str]) -> None:
    """Record which text was replaced by which, to replace it in free text as well."""
    if before.__class__ is str:
        if len(before) >= _SHORTEST_REPLACED and before != after:
            replaced[before] = after if after.__class__ is str else REMOVED
    elif before.__class__ is list:
        paired = after.__class__ is list and len(after) == len(before)
        for index, old in enumerate(before):
            if old.__class__ is str and len(old) >= _SHORTEST_REPLACED:
                new = after[index] if paired else REMOVED
                if new != old:
                    replaced.setdefault(old, new)


def _replace(value: Any, replaced: dict[str, str]) -> Any:
    """The value with every redacted text replaced where it is a whole word."""
    if not replaced:
        return value
    kind = value.__class__
    if kind is str:
        for raw, new in replaced.items():
            if raw in value:
                value = _replace_word(value, raw, new)
        return value
    if kind is dict:
        return {_replace(key, replaced): _replace(item, replaced) for key, item in value.items()}
    return [_replace(item, replaced) for item in value] if kind is list else value


def _replace_word(text: str, raw: str, new: str) -> str:
    """Replaces whole words only: the user "art" must not blank out "start"."""
    out: list[str] = []
    end = 0
    start = text.find(raw)
    while start >= 0:
        stop = start + len(raw)
        inside = (text[start - 1 : start].isalnum() and raw[0].isalnum()) or (
            text[stop : stop + 1].isalnum() and raw[-1].isalnum()
        )
        if inside:
            start = text.find(raw, start + 1)
            continue
        out += (text[end:start], new)
        end = stop
        start = text.find(raw, stop)
    return "".join((*out, text[end:])) if out else text
