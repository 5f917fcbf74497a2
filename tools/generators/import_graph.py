"""Which package of mlaudit imports which: rooms, their floors, and the arrows that do not follow from others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grimp

from mlaudit.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE: Final = "mlaudit"
# Every package may read the version, so arrows to it are omitted.
_LEFT_OUT: Final = frozenset({"_version", "__main__"})


@dataclass(frozen=True, slots=True)
class Rooms:
    """The top-level packages and modules.

    Attributes:
        imports: for each room, the rooms that it imports directly.
        inner: for each room, the packages inside it.
    """

    imports: Mapping[str, frozenset[str]]
    inner: Mapping[str, tuple[str, ...]]

    def floors(self) -> list[list[str]]:
        """The rooms by floor, lowest first: a room is one floor above the highest room that it imports.

        Raises:
            CatalogError: rooms import each other in a circle.
        """
        left = dict(self.imports)
        floors: list[list[str]] = []
        placed: set[str] = set()
        while left:
            floor = sorted(room for room, imported in left.items() if imported <= placed)
            if not floor:
                raise CatalogError([f"packages import each other in a circle: {', '.join(sorted(left))}"])
            floors.append(floor)
            placed.update(floor)
            left = {room: imported for room, imported in left.items() if room not in placed}
        return floors

    def arrows(self) -> list[tuple[str, str]]:
        """Every import that does not follow from others (the transitive reduction), sorted."""
        below: dict[str, set[str]] = {}
        for floor in self.floors():
            for room in floor:
                below[room] = set(self.imports[room]).union(*(below[one] for one in self.imports[room]))
        return sorted(
            (room, target)
            for room, direct in self.imports.items()
            for target in direct
            if not any(target in below[other] for other in direct)
        )


def read_rooms() -> Rooms:
    """The rooms of the installed package, from its source."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    imports: dict[str, set[str]] = {}
    inner: dict[str, tuple[str, ...]] = {}
    for child in graph.find_children(PACKAGE):
        room = child.rpartition(".")[2]
        if room not in _LEFT_OUT:
            imports[room] = set()
            inner[room] = tuple(
                sorted(
                    one.rpartition(".")[2] for one in graph.find_children(child) if graph.find_children(one)
                )
            )
    for module in graph.modules:
        room = _room(module)
        for imported in graph.find_modules_directly_imported_by(module):
            target = _room(imported)
            if room in imports and target in imports and room != target:
                imports[room].add(target)
    return Rooms({room: frozenset(found) for room, found in sorted(imports.items())}, inner)


def _room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]
