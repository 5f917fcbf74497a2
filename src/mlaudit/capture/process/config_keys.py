"""The keys and values of a configuration file, flat, whatever its format."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import PurePath
from typing import Any, Final

from mlaudit.capture.shorten import shortened

MAX_BYTES: Final = 1 << 20
MAX_KEYS: Final = 10_000
MAX_VALUE: Final = 200
_ASSIGNMENT: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.\-]*)\s*[=:]\s*(.*?)\s*")
_SECTION: Final = re.compile(r"\s*\[([^\]]+)\]\s*")


class _TooManyError(Exception):
    """Too many keys, or an endless structure."""


def flat_keys(path: str, content: bytes) -> dict[str, Any] | None:
    """Dotted key → value of a YAML, JSON, TOML, INI or ``.env`` file; None for anything else, or a damaged one."""
    if len(content) > MAX_BYTES:
        return None
    name = PurePath(path).name.lower()
    try:
        text = content.decode("utf-8")
        if name.endswith(".json"):
            parsed: Any = json.loads(text)
        elif name.endswith((".yaml", ".yml")):
            from mlaudit.safety.strict_yaml import parse_foreign

            parsed = parse_foreign(text)
        elif name.endswith(".toml"):
            parsed = tomllib.loads(text)
        elif name.endswith((".ini", ".cfg", ".conf", ".properties")) or ".env" in name:
            parsed = _assignments(text)
        else:
            return None
        found: dict[str, Any] = {}
        _flatten(parsed, "", found, 0)
    except Exception:  # noqa: BLE001 - any parser's error: the digests still show that it changed
        return None
    return found


def changed(before: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    """The keys whose value differs, sorted; empty when either side has no keys to compare."""
    if before is None or now is None:
        return []
    missing = object()
    return [
        key for key in sorted(before.keys() | now.keys()) if before.get(key, missing) != now.get(key, missing)
    ]


def value_text(values: dict[str, Any] | None, key: str, unknown: str = "(absent)") -> str:
    """A value as the file spells it, cut to ``MAX_VALUE`` characters."""
    if values is None or key not in values:
        return unknown
    value = values[key]
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return shortened(text, MAX_VALUE)


def _assignments(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        if heading := _SECTION.fullmatch(line):
            section = f"{heading[1]}."
        elif assignment := _ASSIGNMENT.fullmatch(line):
            found[section + assignment[1]] = assignment[2].strip("\"'")
    return found


def _flatten(value: Any, prefix: str, found: dict[str, Any], depth: int) -> None:
    if len(found) >= MAX_KEYS or depth > 20:
        raise _TooManyError
    if isinstance(value, dict) and value:
        for key, item in value.items():
            _flatten(item, f"{prefix}.{key}" if prefix else str(key), found, depth + 1)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for place, item in enumerate(value):
            _flatten(item, f"{prefix}[{place}]", found, depth + 1)
    else:
        found[prefix or "(root)"] = value
