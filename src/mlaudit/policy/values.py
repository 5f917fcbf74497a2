"""The types of single values in a policy file, each with its own check.

A check reports what was expected and what was found; pydantic collects the errors of all checks.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from zoneinfo import ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator

from mlaudit.policy.change import minutes, zone
from mlaudit.policy.globs import capture_fault, covers, glob_fault, has_wildcard, name_matcher, sample
from mlaudit.policy.selectors import is_reserved
from mlaudit.policy.vocabulary import CATALOG_KINDS, CUSTOM_PREFIX, NOT_AUDITED, is_kind, is_own

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_RETENTION: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


def _many(value: object) -> object:
    """Turns a single text into a list of one, and a list into a tuple, as frozen models need."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _sections(value: object) -> object:
    """Accepts section numbers without quotes, but not 3.10, since YAML reads it as 3.1."""
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


def _captures(value: str) -> str:
    fault = capture_fault(value)
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
            f"expected a field that telemetry may set, found {value!r}, which mlaudit writes itself"
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
DataGlobs = Annotated[tuple[Annotated[str, AfterValidator(_field_glob)], ...], BeforeValidator(_many)]
Attributes = dict[str, str | bool | int | float]
Fields = dict[str, Annotated[tuple[Annotated[Text, AfterValidator(_target)], ...], BeforeValidator(_many)]]
Day = Annotated[date, BeforeValidator(_date)]
Sections = Annotated[tuple[Text, ...], BeforeValidator(_sections), AfterValidator(_filled)]
RoutePath = Annotated[str, AfterValidator(_absolute), AfterValidator(_glob)]
RequestPath = Annotated[RoutePath, AfterValidator(_captures)]
RouteKind = Annotated[str, AfterValidator(_route_kind)]
ForeignKind = Annotated[str, AfterValidator(_foreign_kind)]
NameGlob = Annotated[str, AfterValidator(_glob)]
Digest = Annotated[str, AfterValidator(_full(_DIGEST, "sha256: and 64 lower-case hex digits"))]
Retention = Annotated[str, AfterValidator(_full(_RETENTION, "a class such as standard"))]
Time = Annotated[str, AfterValidator(_time)]
Zone = Annotated[str, AfterValidator(_zone)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Severity = Literal["trace", "debug", "info", "warn", "error", "fatal"]
Many = BeforeValidator(_many)
Filled = AfterValidator(_filled)
