"""Redaction: what a rule does to the values of a record before anybody else sees them.

For each set of field names the work is compiled once into a plan; applying a plan to a record of a usual shape is
a few dict operations. Everything fails closed: a value whose redactor fails is dropped and its name is noted.

Steps, numbered in the code: 1. the policy's and the rule's redactions, in order, each on what the one before
left; 2. fields whose own name says that they hold a secret are dropped; 3. values that were redacted are replaced
wherever they stand in the record's free text; 4. secrets in free text and in nested values are removed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, NamedTuple

from mlaudit.policy.globs import Matcher, name_matcher
from mlaudit.policy.scrub import Scrubber
from mlaudit.policy.secrets import REMOVED
from mlaudit.policy.vocabulary import REQUIRED_FIELDS, is_free_text, is_ip_field, is_known_field, is_protected

FAILED_FIELD: Final = "audit.redaction.failed"
DEFAULT_TRUNCATE: Final = 32
_MAX_PLANS: Final = 512
_SHORTEST_NAMED: Final = 3
_CONTAINERS: Final = frozenset({dict, list, tuple, set, frozenset})
_FLAT: Final = frozenset({str, int, float, bool})


class RedactionRule(NamedTuple):
    """One redaction as the policy gives it; a field pattern that starts with ``!`` makes an exception."""

    fields: tuple[str, ...]
    method: str
    keep: int | None = None


class _Dropped:
    """The type of the mark of a value that goes."""


_DROP: Final = _Dropped()
Redactor = Callable[[Any], Any]


class Pseudonyms:
    """Keyed, stable pseudonyms: ``hmac:<first 8 hex of SHA-256(key)>:<32 hex>`` (HMAC-SHA256, RFC 2104).

    The same value under the same key always gives the same text, in every field, so records can be joined;
    without the key nobody can test a guess. Remembers at most 4096 values.
    """

    __slots__ = ("_hashed", "_keyed", "_prefix", "of")

    def __init__(self, key: bytes) -> None:
        """Take the pseudonym key; refuses an empty one."""
        if not key:
            raise ValueError("expected a pseudonym key, found an empty one")
        self._prefix = f"hmac:{hashlib.sha256(key).hexdigest()[:8]}:"
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)
        self.of: Callable[[str], str] = lru_cache(maxsize=4096)(self._hash)

    def _hash(self, text: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(text.encode("utf-8", "surrogatepass"))
        return self._prefix + keyed.hexdigest()[:32]


def mask(text: str, keep: int) -> str:
    """``***`` and the last ``keep`` characters, but never as much as half of the text."""
    return f"***{text[-keep:]}" if keep and len(text) > 2 * keep else "***"


def truncate(text: str, keep: int) -> str:
    """An IP address as the address of its /24 or /48 network; any other text cut with a mark."""
    return truncate_ip(text) or (text if len(text) <= keep else f"{text[:keep]}…")


def truncate_ip(text: str) -> str | None:
    """The network address of an IP address (IPv4 /24, IPv6 /48), or None when the text is no address.

    An IPv4 address inside IPv6 (``::ffff:192.0.2.7``) is truncated as the IPv4 address that it is: its /48 would
    hide it entirely. A zone (``fe80::1%eth0``) is left out.
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    length = 24 if address.version == 4 else 48
    return str(ip_network((address, length), strict=False).network_address)


@dataclass(frozen=True, slots=True)
class _Plan:
    redactors: tuple[tuple[str, Redactor], ...]
    texts: tuple[tuple[str, Callable[[str], str]], ...]
    named: frozenset[str]


class Redaction:
    """The compiled redactions of one rule. ``apply`` is safe to call from any thread."""

    __slots__ = ("_compiled", "_plans", "_pseudonyms", "_scrubber")

    def __init__(self, rules: Iterable[RedactionRule], pseudonyms: Pseudonyms, scrubber: Scrubber) -> None:
        """Take the redactions in order, and what the whole policy shares."""
        self._pseudonyms = pseudonyms
        self._scrubber = scrubber
        self._compiled = tuple((_field_matcher(rule.fields), rule) for rule in rules)
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def apply(self, fields: dict[str, Any]) -> Sequence[str]:
        """Redact the fields of a record in place; nested values are replaced, never changed.

        Returns:
            The names of the fields that were dropped because their redactor failed, which the record also
            carries as ``audit.redaction.failed``; empty when all went well. Never raises.
        """
        shape = tuple(fields)
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._remember(shape)
        failed: list[str] = []
        replaced: dict[str, str] = {}
        for name, redactor in plan.redactors:  # steps 1 and 2
            before = fields[name]
            try:
                after = redactor(before)
                if plan.texts and name in plan.named:
                    _note(before, after, replaced)
            except Exception:  # noqa: BLE001  fails closed: whatever went wrong, the original does not pass
                after = _DROP
                failed.append(name)
            if after is not _DROP:
                fields[name] = after
            elif name in REQUIRED_FIELDS:
                fields[name] = REMOVED
            else:
                del fields[name]
        for name, scrub in plan.texts:  # steps 3 and 4
            text = fields.get(name)
            if text.__class__ is str:
                try:
                    for raw in replaced:
                        if raw in text:
                            text = _replace_word(text, raw, replaced[raw])
                    fields[name] = scrub(text)
                except Exception:  # noqa: BLE001
                    del fields[name]
                    failed.append(name)
        for (
            name,
            value,
        ) in fields.items():  # step 4, nested values; assigning to existing keys is allowed here
            if value.__class__ not in _FLAT:
                try:
                    fields[name] = self._nested(name, value, replaced)
                except Exception:  # noqa: BLE001
                    fields[name] = REMOVED
                    failed.append(name)
        if failed:
            fields[FAILED_FIELD] = sorted(set(failed))
        return failed

    def methods(self, name: str) -> tuple[str, ...]:
        """The methods that apply to a field, in order; for explaining and comparing policies."""
        return tuple(
            rule.method for matches, rule in self._compiled if matches(name) and not is_protected(name)
        )

    def _nested(self, name: str, value: Any, replaced: dict[str, str]) -> Any:
        if value.__class__ is list and is_known_field(name) and not is_free_text(name):
            # related.user, event.category: identifiers, already redacted by name
            if all(item.__class__ in _FLAT for item in value):
                return value
        scrubbed = self._scrubber.nested(value)
        return _replace_nested(scrubbed, replaced) if replaced else scrubbed

    def _remember(self, shape: tuple[str, ...]) -> _Plan:
        plan = self._make_plan(shape)
        if len(self._plans) >= _MAX_PLANS:  # labels make shapes without end: start over rather than grow
            self._plans.clear()
        self._plans[shape] = plan
        return plan

    def _make_plan(self, shape: tuple[str, ...]) -> _Plan:
        redactors: list[tuple[str, Redactor]] = []
        texts: list[tuple[str, Callable[[str], str]]] = []
        named: set[str] = set()
        for name in shape:
            steps: list[Redactor] = []
            if not is_protected(name):
                steps = [self._redactor(rule, name) for matches, rule in self._compiled if matches(name)]
                if not is_known_field(name) and self._scrubber.is_secret(name):
                    steps = [_drop]
            if steps:
                redactors.append((name, steps[0] if len(steps) == 1 else _chain(steps)))
                named.add(name)
            elif is_free_text(name):
                texts.append((name, self._scrubber.query if name == "url.query" else self._scrubber.text))
        return _Plan(tuple(redactors), tuple(texts), frozenset(named))

    def _redactor(self, rule: RedactionRule, name: str) -> Redactor:
        if rule.method == "drop":
            return _drop
        if rule.method == "hmac":
            return _each(self._pseudonyms.of)
        if rule.method == "mask":
            keep = rule.keep or 0
            return _each(lambda text: mask(text, keep))
        if rule.method == "truncate":
            length = DEFAULT_TRUNCATE if rule.keep is None else rule.keep
            if is_ip_field(name):
                return _each(_ip_or_drop)
            return _each(lambda text: truncate(text, length))
        raise ValueError(f"expected drop, mask, hmac or truncate, found {rule.method!r}")


def _field_matcher(patterns: tuple[str, ...]) -> Matcher:
    wanted = name_matcher(tuple(pattern for pattern in patterns if not pattern.startswith("!")))
    exceptions = tuple(pattern[1:] for pattern in patterns if pattern.startswith("!"))
    if not exceptions:
        return wanted
    unwanted = name_matcher(exceptions)
    return lambda name: wanted(name) and not unwanted(name)


def _drop(_: Any) -> Any:
    return _DROP


def _ip_or_drop(text: str) -> Any:
    return truncate_ip(text) or _DROP


def _each(redact: Callable[[str], Any]) -> Redactor:
    """A redactor of texts for any value: numbers by their text, lists and mappings element by element."""

    def of(value: Any, depth: int = 0) -> Any:
        kind = value.__class__
        if kind is str:
            return redact(value)
        if value is None:
            return None
        if kind in _CONTAINERS:
            if depth > 8:
                return _DROP
            if kind is dict:
                pairs = ((key, of(item, depth + 1)) for key, item in value.items())
                return {key: item for key, item in pairs if item is not _DROP}
            items = (of(item, depth + 1) for item in value)
            return [item for item in items if item is not _DROP]
        return redact(str(value))

    return of


def _chain(steps: list[Redactor]) -> Redactor:
    def of(value: Any) -> Any:
        for step in steps:
            value = step(value)
            if value is _DROP:
                break
        return value

    return of


def _note(before: Any, after: Any, replaced: dict[str, str]) -> None:
    """Remember which text became which, to replace it in free text as well."""
    if before.__class__ is str:
        if len(before) >= _SHORTEST_NAMED and before != after:
            replaced[before] = after if after.__class__ is str else REMOVED
    elif before.__class__ is list:
        paired = after if after.__class__ is list and len(after) == len(before) else [None] * len(before)
        for old, new in zip(before, paired, strict=True):
            if old.__class__ is str:
                _note(old, new, replaced)


def _replace_word(text: str, raw: str, new: str) -> str:
    """Replace ``raw`` where it stands as a word of its own: a user called "art" must not blank out "start"."""
    out: list[str] = []
    end = 0
    start = text.find(raw)
    while start >= 0:
        stop = start + len(raw)
        before = text[start - 1 : start]
        after = text[stop : stop + 1]
        if (before.isalnum() and raw[0].isalnum()) or (after.isalnum() and raw[-1].isalnum()):
            start = text.find(raw, start + 1)
            continue
        out += (text[end:start], new)
        end = stop
        start = text.find(raw, stop)
    return "".join((*out, text[end:])) if out else text


def _replace_nested(value: Any, replaced: dict[str, str]) -> Any:
    if value.__class__ is str:
        for raw, new in replaced.items():
            if raw in value:
                value = _replace_word(value, raw, new)
        return value
    if value.__class__ is dict:
        return {key: _replace_nested(item, replaced) for key, item in value.items()}
    return [_replace_nested(item, replaced) for item in value] if value.__class__ is list else value
