"""Reads the catalog's YAML files into the model, listing every fault at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from mlaudit.catalog.check import check
from mlaudit.catalog.model import Catalog
from mlaudit.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Hashable

DATA = Path(__file__).parent / "data"


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice; the standard loader would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


@cache
def load_catalog() -> Catalog:
    """The packaged catalog, checked.

    Raises:
        CatalogError: the packaged files contradict themselves.
    """
    catalog = read_catalog(DATA)
    issues = check(catalog)
    if issues:
        raise CatalogError([str(issue) for issue in issues])
    return catalog


def read_catalog(folder: Path) -> Catalog:
    """The catalog in a folder, unchecked but for its shape.

    Raises:
        CatalogError: a file is missing, is not YAML, or has not the expected shape; lists every fault.
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
        with path.open(encoding="utf-8") as stream:
            content = yaml.load(stream, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except OSError as error:
        faults.append(f"{path.name}: cannot be read: {error.strerror}")
        return {}
    except yaml.YAMLError as error:
        faults.append(f"{path.name}: is not valid YAML: {error}")
        return {}
    if not isinstance(content, dict):
        faults.append(f"{path.name}: expected a mapping, found {type(content).__name__}")
        return {}
    return content


def _merge(into: dict[str, Any], content: dict[str, Any], path: Path, faults: list[str]) -> None:
    faults.extend(
        f"{path.name}: {name} is already written in another file" for name in content if name in into
    )
    into.update(content)
