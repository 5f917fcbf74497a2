"""Reads the catalog's YAML files into the model, and lists every fault at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlaudit.catalog.check import check
from mlaudit.catalog.model import Catalog
from mlaudit.errors import CatalogError
from mlaudit.safety.strict_yaml import parse

DATA = Path(__file__).parent / "data"


@cache
def load_catalog() -> Catalog:
    """The packaged catalog, checked.

    Raises:
        CatalogError: the packaged files are inconsistent.
    """
    catalog = read_catalog(DATA)
    issues = check(catalog)
    if issues:
        raise CatalogError([str(issue) for issue in issues])
    return catalog


def read_catalog(folder: Path) -> Catalog:
    """The catalog in a folder, of which only the schema is checked.

    Raises:
        CatalogError: a file is missing, is not YAML, or does not match the schema; lists every fault.
    """
    faults: list[str] = []
    fields: dict[str, Any] = {}
    groups: dict[str, list[str]] = {}
    kinds: dict[str, Any] = {}
    areas: dict[str, str] = {}
    for path in sorted((folder / "fields").glob("*.yaml")):
        content = _read(path, faults)
        groups[path.stem] = list(content)
        _merge(fields, content, path, faults)
    for path in sorted((folder / "kinds").glob("*.yaml")):
        content = _read(path, faults)
        areas.update(dict.fromkeys(content, path.stem))
        _merge(kinds, content, path, faults)
    content = {
        name: _read(folder / f"{name}.yaml", faults) for name in ("classes", "controls", "envelope", "policy")
    }
    if faults:
        raise CatalogError(faults)
    try:
        return Catalog.model_validate(
            {"fields": fields, "field_groups": groups, "kinds": kinds, "areas": areas, **content}
        )
    except ValidationError as error:
        raise CatalogError(
            [f"{' > '.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
        ) from error


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        parsed = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path.name}: cannot be read: {getattr(error, 'strerror', '') or error}")
        return {}
    faults.extend(f"{path.name}:{line}: {fault}" for line, fault in parsed.faults)
    if not isinstance(parsed.value, dict):
        if not parsed.faults:
            faults.append(f"{path.name}:1: expected a mapping, found {type(parsed.value).__name__}")
        return {}
    return parsed.value


def _merge(into: dict[str, Any], content: dict[str, Any], path: Path, faults: list[str]) -> None:
    faults.extend(
        f"{path.name}: {name} is already written in another file" for name in content if name in into
    )
    into.update(content)
