"""Keeps the collector's configuration in step with the catalog: the names of objects that could duplicate a field.

``{"service": {"name": …}}`` and ``"service.name"`` are one field to Elasticsearch. A flat record has no such object,
so the collector removes every name that is a proper prefix of a field. Only that one expression is generated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.load import load_catalog
from mlaudit.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PATH: Final = "collector-config/collector.yaml"
OWNED: Final[tuple[str, ...]] = ()
# Fields that only the collector may set are removed with everything below them, by the statement before.
_COLLECTORS: Final = frozenset({"event", "mlaudit", "data_stream"})
_PLACE: Final = re.compile(
    r'(delete_matching_keys\(body, ")\^[^"]*(\$"\) where cache\["valid"\] == true and cache\["objects"\] > 2)'
)


def outputs(root: Path) -> Mapping[str, str]:
    """The current configuration with the generated expression.

    Raises:
        CatalogError: the statement that holds the expression does not occur exactly once.
    """
    text = (root / PATH).read_text(encoding="utf-8")
    wanted = prefixes(load_catalog().fields)
    changed, count = _PLACE.subn(lambda found: f"{found[1]}^{expression(wanted)}{found[2]}", text)
    if count != 1:
        raise CatalogError(
            [f"{PATH}: expected one statement that removes objects by name, found {count}; see {__name__}"]
        )
    return {PATH: changed}


def prefixes(fields: Iterable[str]) -> frozenset[str]:
    """Every name that a nested form of a field could begin with and that is not a field itself."""
    names = set(fields)
    found = {name[:at] for name in names for at, sign in enumerate(name) if sign == "."}
    return frozenset(name for name in found - names if name.partition(".")[0] not in _COLLECTORS)


def expression(names: Iterable[str]) -> str:
    """A regular expression (RE2) that matches exactly ``names``; common beginnings are written once."""
    tree: dict[str, Any] = {}
    wanted = frozenset(names)
    for name in wanted:
        branch = tree
        for part in name.split("."):
            branch = branch.setdefault(part, {})
    return _branch(tree, "", wanted)


def _branch(tree: dict[str, Any], before: str, wanted: frozenset[str]) -> str:
    parts = []
    for name, below in sorted(tree.items()):
        if not below:
            parts.append(name)
            continue
        rest = f"[.]{_branch(below, f'{before}{name}.', wanted)}"
        parts.append(f"{name}({rest})?" if before + name in wanted else name + rest)
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"
