"""Reads a YAML source of generated files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlaudit.errors import RuleError
from mlaudit.safety.strict_yaml import parse

if TYPE_CHECKING:
    from pathlib import Path


def read_mapping(file: Path, *, aliases: bool = False) -> dict[str, Any]:
    """The mapping in a file; see ``mlaudit.safety.strict_yaml``.

    Raises:
        RuleError: the file is not strict YAML, or not a mapping; lists every fault with its line.
    """
    parsed = parse(file.read_text(encoding="utf-8"), aliases=aliases)
    faults = [f"{file.name}:{line}: {fault}" for line, fault in parsed.faults]
    if not faults and not isinstance(parsed.value, dict):
        faults = [f"{file.name}:1: expected a mapping, found {type(parsed.value).__name__}"]
    if faults:
        raise RuleError("; ".join(faults))
    mapping: dict[str, Any] = parsed.value
    return mapping
