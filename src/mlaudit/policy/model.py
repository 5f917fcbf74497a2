"""The schema of a policy file: strict, without unknown keys or type conversion.

This module checks single values; ``validate`` checks what depends on several values. Each field's description
completes the sentence "expected …" of a fault.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlaudit.policy.values import (
    Attributes,
    DataGlobs,
    Day,
    Digest,
    FieldGlobs,
    Fields,
    Filled,
    ForeignKind,
    Globs,
    Header,
    HttpMethods,
    KindGlobs,
    Many,
    Name,
    NameGlob,
    PathGlobs,
    RequestPath,
    Retention,
    RouteKind,
    RoutePath,
    Sections,
    Severity,
    Text,
    Texts,
    Time,
    Weekday,
    Zone,
)


class Strict(BaseModel):
    """An unknown key is a fault, and nothing is converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Revision(Strict):
    """One entry of the revision history (section 9 of the policy document)."""

    number: Annotated[int, Field(ge=1, description="the revision's number, a whole number from 1")]
    date: Day = Field(description="the date of the revision as YYYY-MM-DD")
    changes: Texts = Field(description="what was changed, a text or a list of texts")
    reason: Text = Field(description="why it was changed, a text")
    sections: Sections = Field(description="the affected sections or clauses, a text or a list of texts")


class Redact(Strict):
    """A redaction of some fields."""

    fields: FieldGlobs = Field(description="patterns of field names; !name makes an exception")
    method: Literal["drop", "mask", "hmac", "truncate"] = Field(description="drop, mask, hmac or truncate")
    keep: Annotated[int, Field(ge=0, le=4096)] | None = Field(
        default=None, description="how many characters stay (mask: the last, truncate: the first), 0 to 4096"
    )


class Scrub(Strict):
    """What is removed from free text and nested values in addition to the secrets that always are."""

    emails: bool = Field(default=True, description="true to mask e-mail addresses in free text, or false")
    keys: Globs | None = Field(default=None, description="patterns of further key names that hold secrets")


class Route(Strict):
    """Which event kind a request is."""

    methods: HttpMethods | None = Field(default=None, description="HTTP methods; absent means all")
    path: RequestPath = Field(
        description="a path pattern: * within one segment, ** across segments, {model} and {version} to be recorded"
    )
    kind: RouteKind = Field(description="an event kind, or none for requests that are not audited")


class Match(Strict):
    """The events that a rule applies to; every given criterion must match, by any one of its patterns."""

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
    redact: Annotated[tuple[Redact, ...], Many] = Field(
        default=(), description="a list of redactions, after the policy's own"
    )
    guarantee: Literal["buffered", "durable"] | None = Field(default=None, description="buffered or durable")
    on_failure: Literal["continue", "refuse"] = Field(default="continue", description="continue or refuse")
    retention: Retention = Field(
        default="standard", description="a retention class: lower-case letters, digits, _ and -"
    )


class Model(Strict):
    """A registered model artifact."""

    name: NameGlob | None = Field(default=None, description="a pattern of model names")
    path: RoutePath | None = Field(default=None, description="a pattern of artifact paths")
    digest: Digest = Field(description="the artifact's digest: sha256: and 64 lower-case hex digits")


class Data(Strict):
    """Which data accesses are recorded."""

    tables: DataGlobs = Field(
        default=(), description="patterns of table names (customers, crm.*, *); !name makes an exception"
    )
    paths: DataGlobs = Field(
        default=("**",), description="patterns of paths and URIs of files; !pattern makes an exception"
    )
    bulk_rows: Annotated[int, Field(ge=1)] | None = Field(
        default=100_000,
        description="the number of rows from which it is an export, a whole number from 1, or null",
    )


class ChangeWindow(Strict):
    """When changes may happen."""

    days: Annotated[tuple[Weekday, ...], Many, Filled] = Field(
        description="days on which the window starts: mon, tue, wed, thu, fri, sat, sun"
    )
    start: Time = Field(description="the first minute as HH:MM")
    end: Time = Field(description="the minute after the last as HH:MM")
    timezone: Zone = Field(description="an IANA time zone such as Europe/Berlin")


class Change(Strict):
    """Change control."""

    ticket_header: Header = Field(default="x-change-ticket", description="the header that names the ticket")
    approver_header: Header = Field(
        default="x-change-approver", description="the header that names the approver"
    )
    windows: Annotated[tuple[ChangeWindow, ...], Many] = Field(
        default=(), description="a list of windows: days, start, end, timezone"
    )


class SpanEntry(Strict):
    """Spans of other instrumentations that are audit events."""

    scope: Globs | None = Field(default=None, description="patterns of instrumentation scope names")
    name: Globs | None = Field(default=None, description="patterns of span names")
    attributes: Attributes = Field(default={}, description="attribute names, each with a pattern or a value")
    kind: ForeignKind = Field(description="the event kind that the span becomes")
    fields: Fields = Field(
        default={}, description="attribute names or patterns, each with a field or several"
    )


class LogEntry(Strict):
    """Log records of other libraries that are audit events."""

    logger: Globs | None = Field(default=None, description="patterns of logger names")
    event_name: Globs | None = Field(default=None, description="patterns of event names")
    severity: Severity | None = Field(
        default=None, description="the lowest severity: trace, debug, info, warn, error, fatal"
    )
    attributes: Attributes = Field(default={}, description="attribute names, each with a pattern or a value")
    kind: ForeignKind | None = Field(
        default=None, description="the event kind; absent takes the event name itself"
    )
    fields: Fields = Field(
        default={}, description="attribute names or patterns, each with a field or several"
    )


class Policy(Strict):
    """A policy as written; ``evaluate.compile_policy`` compiles it."""

    version: Literal[1] = Field(description="1, the version of this file format")
    revisions: Annotated[tuple[Revision, ...], Many, Filled] = Field(
        description="the revision history: number, date, changes, reason, sections"
    )
    scrub: Scrub = Field(default=Scrub(), description="emails and keys")
    redact: Annotated[tuple[Redact, ...], Many] = Field(
        default=(), description="a list of redactions for all rules"
    )
    routes: Annotated[tuple[Route, ...], Many] = Field(
        default=(), description="a list of routes: methods, path, kind"
    )
    rules: Annotated[tuple[Rule, ...], Many] = Field(description="a list of rules")
    watch: PathGlobs = Field(default=(), description="absolute paths of configuration files")
    models: Annotated[tuple[Model, ...], Many] = Field(
        default=(), description="a list of registered models: name, path, digest"
    )
    data: Data = Field(default=Data(), description="tables, paths, bulk_rows")
    change: Change = Field(default=Change(), description="ticket_header, approver_header, windows")
    spans: Annotated[tuple[SpanEntry, ...], Many] = Field(default=(), description="a list of span selectors")
    logs: Annotated[tuple[LogEntry, ...], Many] = Field(default=(), description="a list of log selectors")

    @property
    def digest(self) -> str:
        """Lower-case hex SHA-256 of the canonical form: independent of comments, layout and key order."""
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
