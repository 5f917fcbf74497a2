"""Loads a policy strictly: reports every fault of a file at once, each with its line and what was expected.

Sections that a policy omits (``scrub``, ``redact``, ``routes``, ``data``, ``spans``, ``logs``) are inherited from the
built-in policy: a policy with an omitted section must not be weaker than no policy. ``redact: []`` turns redaction
off.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, ValidationError

from mlaudit.errors import PolicyError
from mlaudit.policy.model import Policy
from mlaudit.policy.validate import check
from mlaudit.safety import strict_yaml
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BUILT_IN: Final = "built-in policy"
_FAULTS_SHOWN: Final = 200
_INHERITED: Final = ("scrub", "redact", "routes", "data", "spans", "logs")


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of checking a policy's text; ``policy`` is None when there are faults."""

    policy: Policy | None
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def load_policy(path: Path | None, *, now: datetime | None = None) -> Policy:
    """Load a policy file, or the built-in policy for None.

    ``now`` (aware) is the latest permitted date of a revision; the current time when absent.

    Raises:
        PolicyError: with every fault of the file, each with its line.
    """
    if path is None:
        return _built_in()
    try:
        content = read_file(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise PolicyError(str(path), [f"cannot be read ({why}); expected a readable file"]) from error
    return parse_policy(content, str(path), now=now)


def read_file(path: Path) -> bytes:
    """A policy file's bytes, up to the maximum size of a policy: it may be a pipe, as in <(…), or have no end.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(4 * strict_yaml.MAX_CHARACTERS + 1)


def parse_policy(content: str | bytes, source: str, *, now: datetime | None = None) -> Policy:
    """The same, for the content of a file; ``source`` names it in the error."""
    found = inspect_policy(content, now=now)
    if found.policy is None:
        raise PolicyError(source, found.faults)
    return found.policy


def inspect_policy(content: str | bytes, *, now: datetime | None = None) -> Inspection:
    """Every fault and every warning of a policy's text; never raises."""
    return _inspect(content, now or datetime.now(UTC), inherited=built_in_values())


def built_in_text() -> str:
    """The built-in policy as its YAML text."""
    return (files("mlaudit.policy") / "default.yaml").read_text("utf-8")


@lru_cache(maxsize=1)
def built_in_values() -> Mapping[str, Any]:
    """The built-in policy's plain values."""
    value = strict_yaml.parse(built_in_text()).value
    return value if isinstance(value, dict) else {}


@lru_cache(maxsize=1)
def _built_in() -> Policy:
    # The dates of the packaged file are not checked against a clock that may be wrong.
    found = _inspect(built_in_text(), datetime.max.replace(tzinfo=UTC, year=9000), inherited={})
    if found.policy is None:
        raise PolicyError(BUILT_IN, found.faults)
    return found.policy


def _inspect(content: str | bytes, now: datetime, *, inherited: Mapping[str, Any]) -> Inspection:
    text = content if isinstance(content, str) else ""
    if isinstance(content, bytes):
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            return Inspection(
                None, (f"line {line}: expected UTF-8, found byte 0x{content[error.start]:02x}",), ()
            )
    parsed = strict_yaml.parse(text, empty="expected a policy, found an empty file")
    faults = list(parsed.faults)
    warnings: list[tuple[int, str]] = []
    policy: Policy | None = None
    if isinstance(parsed.value, dict):
        missing = {key: inherited[key] for key in _INHERITED if key not in parsed.value and key in inherited}
        try:
            policy = Policy.model_validate({**parsed.value, **missing})
        except ValidationError as error:
            faults += (
                _fault(parsed, one["loc"], one)
                for one in islice(error.errors(include_url=False), _FAULTS_SHOWN)
                if not any(one["loc"][: len(place)] == place for place in parsed.unread)
            )
        for issue in check(parsed.value, now):
            text = f"{strict_yaml.place(issue.path)}: {issue.text}"
            (warnings if issue.warning else faults).append((parsed.line(issue.path), text))
    elif not faults:
        faults.append((1, f"expected a mapping of {_keys(Policy)}, found {_shown(parsed.value)}"))
    return Inspection(policy=None if faults else policy, faults=_sorted(faults), warnings=_sorted(warnings))


def _sorted(found: list[tuple[int, str]]) -> tuple[str, ...]:
    # The texts contain keys and names of the file, and are printed to terminals.
    return tuple(f"line {line}: {safe(text)}" for line, text in sorted(dict.fromkeys(found))[:_FAULTS_SHOWN])


def _fault(parsed: strict_yaml.Document, loc: tuple[int | str, ...], error: Any) -> tuple[int, str]:
    expected = _expected()
    kind = error["type"]
    path = loc
    while path and _named(path) not in expected:
        path = path[:-1]
    wanted = expected.get(_named(path), "")
    if kind == "extra_forbidden":
        allowed = _allowed().get(_named(loc[:-1]), ())
        close = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        text = f"unknown key{hint}; expected one of {', '.join(allowed)}"
    elif kind == "missing":
        text = f"is missing; expected {wanted}"
    elif kind == "value_error":
        text = error["msg"].removeprefix("Value error, ")
    else:
        text = f"expected {wanted or error['msg']}, found {_shown(error['input'])}"
    # pydantic names the branch of a union like a place, which does not exist in the file
    shown = tuple(part for index, part in enumerate(loc) if loc[: index + 1] in parsed.lines or index == 0)
    if kind == "missing":
        shown = loc
    return parsed.line(shown), f"{strict_yaml.place(shown)}: {text}"


def _shown(value: object) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _named(loc: tuple[int | str, ...]) -> str:
    return ".".join(part for part in loc if isinstance(part, str))


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


@lru_cache(maxsize=1)
def _expected() -> dict[str, str]:
    return {place: text for place, _, text in describe(Policy)}


@lru_cache(maxsize=1)
def _allowed() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for place, name, _ in describe(Policy):
        found.setdefault(place.rpartition(".")[0], []).append(name)
    return {place: tuple(names) for place, names in found.items()}


def describe(model: type[BaseModel], place: str = "") -> list[tuple[str, str, str]]:
    """Every key of a policy file as (place, key, what is expected there), e.g. ``("rules.level", "level", …)``."""
    out: list[tuple[str, str, str]] = []
    for name, info in model.model_fields.items():
        where = f"{place}.{name}" if place else name
        out.append((where, name, info.description or ""))
        inner = _model_in(info.annotation)
        if inner is not None:
            out += describe(inner, where)
    return out


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg)) is not None), None)
