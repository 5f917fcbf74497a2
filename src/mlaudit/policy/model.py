"""The shape of a policy file: strict, every key known, every value of its type.

What one value alone can get wrong is checked here; what depends on several values is in ``validate``. Each field's
description completes the sentence "expected …" of a fault.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mlaudit.policy.change import DAYS, minutes, zone
from mlaudit.policy.globs import covers, glob_fault, has_wildcard, name_matcher, sample
from mlaudit.policy.selectors import is_reserved
from mlaudit.policy.vocabulary import CATALOG_KINDS, CUSTOM_PREFIX, NOT_AUDITED, SEVERITIES, is_kind, is_own

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


def _many(value: object) -> object:
    """One text stands for a list of one; a list becomes a tuple, as frozen models hold."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _sections(value: object) -> object:
    """Section numbers may be written plain; 3.10 may not, since YAML reads it as 3.1."""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, float) for item in items):
        raise ValueError('expected section numbers with a point in quotes, such as "3.10"')
    return tuple(str(item) if type(item) is int else item for item in items)


def _filled(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("expected at least one entry, found an empty list")
    return value


def _glob(value: str) -> str:
    fault = glob_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value


def _field_glob(value: str) -> str:
    _glob(value.removeprefix("!"))
    return value


def _kind_glob(value: str) -> str:
    _glob(value)
    if has_wildcard(value):
        match = name_matcher((value,))
        reaches_custom = covers(value, f"{CUSTOM_PREFIX}*") or sample(value).startswith(CUSTOM_PREFIX)
        if not reaches_custom and not any(match(kind) for kind in CATALOG_KINDS):
            raise ValueError(f"expected a pattern of kinds, found {value!r} that matches none")
        return value
    return _kind(value)


def _kind(value: str) -> str:
    if not is_kind(value):
        raise ValueError(f"expected a kind of the catalog or {CUSTOM_PREFIX}*, found {value!r}{_near(value)}")
    return value


def _foreign_kind(value: str) -> str:
    _kind(value)
    if is_own(value):
        raise ValueError(
            f"expected a kind that others may produce, found {value!r}, which only mlaudit records"
        )
    return value


def _route_kind(value: str) -> str:
    return value if value == NOT_AUDITED else _foreign_kind(value)


def _near(value: str) -> str:
    import difflib  # only when a fault is reported

    close = difflib.get_close_matches(value, CATALOG_KINDS, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _full(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"expected {what}, found {value!r}")
        return value

    return check


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("expected a text, found an empty one")
    return value


def _date(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value) if len(value) == 10 else value
        except ValueError:
            return value
    return value


def _time(value: str) -> str:
    try:
        minutes(value)
    except ValueError:
        raise ValueError(f"expected a time as HH:MM, 00:00 to 24:00, found {value!r}") from None
    return value


def _zone(value: str) -> str:
    try:
        zone(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"expected an IANA time zone such as Europe/Berlin, found {value!r}") from None
    return value


def _absolute(value: str) -> str:
    if not value.startswith(("/", "*")):
        raise ValueError(f"expected a path that starts with / or *, found {value!r}")
    return value


def _target(value: str) -> str:
    if is_reserved(value):
        raise ValueError(
            f"expected a field that telemetry may fill, found {value!r}, which mlaudit writes itself"
        )
    return value


Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[str, AfterValidator(_full(_NAME, "letters, digits, spaces and . _ - (at most 64)"))]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_many), AfterValidator(_filled)]
Globs = Annotated[
    tuple[Annotated[str, AfterValidator(_glob)], ...], BeforeValidator(_many), AfterValidator(_filled)
]
FieldGlobs = Annotated[
    tuple[Annotated[str, AfterValidator(_field_glob)], ...], BeforeValidator(_many), AfterValidator(_filled)
]
KindGlobs = Annotated[
    tuple[Annotated[str, AfterValidator(_kind_glob)], ...], BeforeValidator(_many), AfterValidator(_filled)
]
PathGlobs = Annotated[
    tuple[Annotated[str, AfterValidator(_absolute), AfterValidator(_glob)], ...], BeforeValidator(_many)
]
HttpMethods = Annotated[
    tuple[Annotated[str, AfterValidator(_full(_METHOD, "an upper-case HTTP method"))], ...],
    BeforeValidator(_many),
    AfterValidator(_filled),
]
Header = Annotated[str, AfterValidator(_full(_HEADER, "the name of an HTTP header"))]
Attributes = dict[str, str | bool | int | float]
Fields = dict[str, Annotated[tuple[Annotated[Text, AfterValidator(_target)], ...], BeforeValidator(_many)]]


class Strict(BaseModel):
    """An unknown key is a fault, and nothing is converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Revision(Strict):
    """One entry of the revision history (section 9 of the policy document)."""

    number: Annotated[int, Field(ge=1, description="the revision's number, a whole number from 1")]
    date: Annotated[date, BeforeValidator(_date), Field(description="the date of the revision as YYYY-MM-DD")]
    changes: Texts = Field(description="what was changed, a text or a list of texts")
    reason: Text = Field(description="why it was changed, a text")
    sections: Annotated[tuple[Text, ...], BeforeValidator(_sections), AfterValidator(_filled)] = Field(
        description="the affected sections or clauses, a text or a list of texts"
    )


class Redact(Strict):
    """What is done to some fields."""

    fields: FieldGlobs = Field(description="patterns of field names; !name makes an exception")
    method: Literal["drop", "mask", "hmac", "truncate"] = Field(description="drop, mask, hmac or truncate")
    keep: Annotated[int, Field(ge=0, le=4096)] | None = Field(
        default=None, description="how many characters stay (mask: the last, truncate: the first), 0 to 4096"
    )


class Scrub(Strict):
    """What is removed from free text and nested values, besides what always is."""

    emails: bool = Field(default=True, description="true to mask e-mail addresses in free text, or false")
    keys: Globs | None = Field(default=None, description="patterns of further key names that hold secrets")


class Route(Strict):
    """Which event kind a request is."""

    methods: HttpMethods | None = Field(default=None, description="HTTP methods; absent means all")
    path: Annotated[str, AfterValidator(_absolute), AfterValidator(_glob)] = Field(
        description="a path pattern: * within one segment, ** across segments"
    )
    kind: Annotated[str, AfterValidator(_route_kind)] = Field(
        description="an event kind, or none for requests that are not audited"
    )


class Match(Strict):
    """What a rule applies to; all given criteria must hold, each by any one of its patterns."""

    kind: KindGlobs | None = Field(default=None, description="patterns of event kinds")
    service: Globs | None = Field(default=None, description="patterns of service names")
    route: Globs | None = Field(default=None, description="patterns of routes: * within a segment, ** across")
    model: Globs | None = Field(default=None, description="patterns of model names")
    actor: Globs | None = Field(default=None, description="patterns of actor ids as captured")


class Rule(Strict):
    """One rule; the first one that matches decides."""

    name: Name = Field(description="a name for the rule: letters, digits, spaces and . _ -")
    match: Match = Field(default=Match(), description="criteria: kind, service, route, model, actor")
    level: Literal["none", "metadata", "inputs", "full"] = Field(description="none, metadata, inputs or full")
    redact: Annotated[tuple[Redact, ...], BeforeValidator(_many)] = Field(
        default=(), description="a list of redactions, after the policy's own"
    )
    guarantee: Literal["buffered", "durable"] | None = Field(default=None, description="buffered or durable")
    on_failure: Literal["continue", "refuse"] = Field(default="continue", description="continue or refuse")
    retention: Annotated[
        str, AfterValidator(_full(re.compile("[a-z][a-z0-9_-]{0,31}"), "a class such as standard"))
    ] = Field(default="standard", description="a retention class: lower-case letters, digits, _ and -")


class Model(Strict):
    """A registered model artifact."""

    name: Annotated[str, AfterValidator(_glob)] | None = Field(
        default=None, description="a pattern of model names"
    )
    path: Annotated[str, AfterValidator(_absolute), AfterValidator(_glob)] | None = Field(
        default=None, description="a pattern of artifact paths"
    )
    digest: Annotated[str, AfterValidator(_full(_DIGEST, "sha256: and 64 lower-case hex digits"))] = Field(
        description="the artifact's digest: sha256: and 64 lower-case hex digits"
    )


class ChangeWindow(Strict):
    """When changes may happen."""

    days: Annotated[tuple[Literal[DAYS], ...], BeforeValidator(_many), AfterValidator(_filled)] = Field(  # type: ignore[valid-type]
        description="days on which the window starts: mon, tue, wed, thu, fri, sat, sun"
    )
    start: Annotated[str, AfterValidator(_time)] = Field(description="the first minute as HH:MM")
    end: Annotated[str, AfterValidator(_time)] = Field(description="the minute after the last as HH:MM")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        description="an IANA time zone such as Europe/Berlin"
    )


class Change(Strict):
    """Change control."""

    ticket_header: Header = Field(default="x-change-ticket", description="the header that names the ticket")
    approver_header: Header = Field(
        default="x-change-approver", description="the header that names the approver"
    )
    windows: Annotated[tuple[ChangeWindow, ...], BeforeValidator(_many)] = Field(
        default=(), description="a list of windows: days, start, end, timezone"
    )


class SpanEntry(Strict):
    """Spans of other instrumentations that are audit events."""

    scope: Globs | None = Field(default=None, description="patterns of instrumentation scope names")
    name: Globs | None = Field(default=None, description="patterns of span names")
    attributes: Attributes = Field(default={}, description="attribute names, each with a pattern or a value")
    kind: Annotated[str, AfterValidator(_foreign_kind)] = Field(
        description="the event kind that the span becomes"
    )
    fields: Fields = Field(
        default={}, description="attribute names or patterns, each with a field or several"
    )


class LogEntry(Strict):
    """Log records of other libraries that are audit events."""

    logger: Globs | None = Field(default=None, description="patterns of logger names")
    event_name: Globs | None = Field(default=None, description="patterns of event names")
    severity: Literal[tuple(SEVERITIES)] | None = Field(  # type: ignore[valid-type]
        default=None, description="the lowest severity: trace, debug, info, warn, error, fatal"
    )
    attributes: Attributes = Field(default={}, description="attribute names, each with a pattern or a value")
    kind: Annotated[str, AfterValidator(_foreign_kind)] | None = Field(
        default=None, description="the event kind; absent takes the event name itself"
    )
    fields: Fields = Field(
        default={}, description="attribute names or patterns, each with a field or several"
    )


class Policy(Strict):
    """A policy as written; ``evaluate.compile_policy`` makes it decide."""

    version: Literal[1] = Field(description="1, the version of this file format")
    revisions: Annotated[tuple[Revision, ...], BeforeValidator(_many), AfterValidator(_filled)] = Field(
        description="the revision history: number, date, changes, reason, sections"
    )
    scrub: Scrub = Field(default=Scrub(), description="emails and keys")
    redact: Annotated[tuple[Redact, ...], BeforeValidator(_many)] = Field(
        default=(), description="a list of redactions for all rules"
    )
    routes: Annotated[tuple[Route, ...], BeforeValidator(_many)] = Field(
        default=(), description="a list of routes: methods, path, kind"
    )
    rules: Annotated[tuple[Rule, ...], BeforeValidator(_many)] = Field(description="a list of rules")
    watch: PathGlobs = Field(default=(), description="absolute paths of configuration files")
    models: Annotated[tuple[Model, ...], BeforeValidator(_many)] = Field(
        default=(), description="a list of registered models: name, path, digest"
    )
    change: Change = Field(default=Change(), description="ticket_header, approver_header, windows")
    spans: Annotated[tuple[SpanEntry, ...], BeforeValidator(_many)] = Field(
        default=(), description="a list of span selectors"
    )
    logs: Annotated[tuple[LogEntry, ...], BeforeValidator(_many)] = Field(
        default=(), description="a list of log selectors"
    )

    @property
    def digest(self) -> str:
        """Lower-case hex SHA-256 of the canonical form: comments, layout and key order do not count."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()

    @property
    def revision(self) -> int:
        """The number of the latest revision."""
        return max(entry.number for entry in self.revisions)


def canonical(policy: Policy) -> str:
    """The policy as JSON with sorted keys and without spaces; equal policies give equal texts."""
    return json.dumps(
        policy.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
