"""Places boxes on floors so that few arrows cross: long arrows get a position on each floor that they cross."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SWEEPS: Final = 60
_GAP: Final = 14.0
_PASSAGE: Final = 10.0


@dataclass(slots=True)
class Layout:
    """Where everything is.

    Attributes:
        floors: names from left to right, lowest floor first; the position of a long arrow is named ``from>to@floor``.
        centre: the horizontal centre of each name.
        paths: for each arrow the names on its path, from top to bottom.
    """

    floors: list[list[str]]
    centre: dict[str, float] = field(default_factory=dict)
    paths: dict[tuple[str, str], list[str]] = field(default_factory=dict)


def place(
    floors: Sequence[Sequence[str]],
    arrows: Iterable[tuple[str, str]],
    widths: Mapping[str, float],
    total: float,
) -> Layout:
    """Orders each floor by the positions of its neighbours, in several passes up and down, then separates boxes."""
    level = {name: number for number, floor in enumerate(floors) for name in floor}
    layout = Layout([list(floor) for floor in floors])
    above: dict[str, list[str]] = {name: [] for name in level}
    below: dict[str, list[str]] = {name: [] for name in level}
    for source, target in arrows:
        path = [source]
        for number in range(level[source] - 1, level[target], -1):
            passage = f"{source}>{target}@{number}"
            layout.floors[number].append(passage)
            above[passage], below[passage] = [], []
            path.append(passage)
        path.append(target)
        layout.paths[source, target] = path
        for upper, lower in pairwise(path):
            below[upper].append(lower)
            above[lower].append(upper)
    for floor in layout.floors:
        _spread(floor, {}, widths, total, layout.centre)
    best = (_cost(layout), [list(floor) for floor in layout.floors], dict(layout.centre))
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for floor in reversed(layout.floors) if downwards else layout.floors:
            wanted = {
                name: fmean(layout.centre[one] for one in neighbours[name])
                if neighbours[name]
                else layout.centre[name]
                for name in floor
            }
            floor.sort(key=lambda name, at=wanted: (round(at[name], 3), name))  # type: ignore[misc]
            _spread(floor, wanted, widths, total, layout.centre)
        cost = _cost(layout)
        if cost < best[0]:
            best = (cost, [list(floor) for floor in layout.floors], dict(layout.centre))
    _, layout.floors, layout.centre = best
    return layout


def _cost(layout: Layout) -> tuple[int, float]:
    """Number of crossings, then the horizontal length of arrows."""
    level = {name: number for number, floor in enumerate(layout.floors) for name in floor}
    at = layout.centre
    steps = [pair for path in layout.paths.values() for pair in pairwise(path)]
    crossings = sum(
        (at[a] - at[c]) * (at[b] - at[d]) < 0
        for number, (a, b) in enumerate(steps)
        for c, d in steps[number + 1 :]
        if level[a] == level[c]
    )
    return crossings, round(sum(abs(at[a] - at[b]) for a, b in steps), 1)


def _spread(
    floor: Sequence[str],
    wanted: Mapping[str, float],
    widths: Mapping[str, float],
    total: float,
    centre: dict[str, float],
) -> None:
    sizes = [widths.get(name, _PASSAGE) for name in floor]
    free = total - sum(sizes)
    gap = min(_GAP, free / (len(floor) + 1))
    edge = gap
    lefts = []
    for name, size in zip(floor, sizes, strict=True):
        left = (
            max(edge, wanted[name] - size / 2) if name in wanted else edge + (free / (len(floor) + 1) - gap)
        )
        lefts.append(left)
        edge = left + size + gap
    edge = total - gap
    for number in reversed(range(len(floor))):
        lefts[number] = min(lefts[number], edge - sizes[number])
        edge = lefts[number] - gap
    for name, left, size in zip(floor, lefts, sizes, strict=True):
        centre[name] = left + size / 2
