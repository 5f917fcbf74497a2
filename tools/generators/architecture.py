"""Draws ``docs/architecture.svg``: the packages on their floors, and the imports that do not follow from others."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from mlaudit.errors import CatalogError
from tools.generate import MARK
from tools.generators.import_graph import Rooms, read_rooms
from tools.generators.layered_layout import Layout, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PATH: Final = "docs/architecture.svg"
OWNED: Final = (PATH,)

#: Name of a subject, its fill and its border.
LINES: Final = {
    "entry": ("what is started", "#fef3c7", "#b45309"),
    "process": ("audited process, stages 1 to 5", "#e0f2fe", "#0369a1"),
    "proof": ("reading a trail", "#fae8ff", "#a21caf"),
    "cluster": ("Elasticsearch", "#dcfce7", "#15803d"),
    "base": ("shared", "#f1f5f9", "#475569"),
}
#: Each room's subject and purpose. A room without an entry, or an entry without a room, is an error.
ROOMS: Final = {
    "cli": ("entry", "the mlaudit command"),
    "_autostart": ("entry", "starts with Python"),
    "api": ("entry", "what services import"),
    "ipython": ("entry", "notebook extension"),
    "testing": ("entry", "pytest fixture"),
    "capture": ("process", "1 what happens becomes events"),
    "policy": ("process", "2 how much is recorded"),
    "records": ("process", "3 fields and bytes"),
    "seal": ("process", "4 chain and signatures"),
    "deliver": ("process", "5 to disk, then to the collector"),
    "pipeline": ("process", "puts the stages together"),
    "verify": ("proof", "is the trail complete and unaltered"),
    "lineage": ("proof", "where a model comes from"),
    "detect": ("proof", "runs detection rules"),
    "health": ("proof", "status, doctor"),
    "cluster": ("cluster", "client of Elasticsearch"),
    "install": ("cluster", "templates, roles, lifecycle"),
    "stack": ("cluster", "local Elasticsearch, collector"),
    "settings": ("base", "MLAUDIT_* variables"),
    "catalog": ("base", "event kinds and fields"),
    "event": ("base", "an event, before policy"),
    "safety": ("base", "network, files, locks, YAML"),
    "errors": ("base", "every error class"),
    "rfc3339": ("base", "every time as text"),
}

WIDTH: Final = 800.0
_TOP: Final = 14.0
_BOX: Final = 54.0
_BETWEEN: Final = 44.0
_LEGEND: Final = 34.0
_LETTER: Final = 5.9
_NAME_LETTER: Final = 8.2
_INK: Final = "#334155"


def outputs(root: Path) -> Mapping[str, str]:
    """The picture."""
    del root
    return {PATH: draw(read_rooms())}


def draw(rooms: Rooms) -> str:
    """The picture as SVG; the same rooms give the same bytes.

    Raises:
        CatalogError: a room has no description here, or a description has no room.
    """
    if different := set(rooms.imports) ^ set(ROOMS):
        raise CatalogError(
            [f"{name}: expected a package with a line in {__name__}.ROOMS" for name in sorted(different)]
        )
    texts = {room: (_inner(rooms, room), what) for room, (_, what) in ROOMS.items()}
    widths = {
        room: max(len(room) * _NAME_LETTER, *(len(line) * _LETTER for line in lines)) + 10
        for room, lines in texts.items()
    }
    layout = place(rooms.floors(), rooms.arrows(), widths, WIDTH)
    height = _TOP + len(layout.floors) * (_BOX + _BETWEEN) - _BETWEEN + _LEGEND + _TOP
    tops = {
        name: _TOP + (len(layout.floors) - 1 - number) * (_BOX + _BETWEEN)
        for number, floor in enumerate(layout.floors)
        for name in floor
    }
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" width="{WIDTH:g}" '
            f'height="{height:g}" font-family="system-ui, sans-serif" role="img" '
            'aria-label="Packages of mlaudit on floors; each imports only from floors below">',
            f"<!-- {MARK} -->",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
            f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{_INK}"/></marker></defs>',
            f'<rect width="{WIDTH:g}" height="{height:g}" rx="10" fill="#ffffff"/>',
            *_arrows(layout, widths, tops),
            *(
                _box(room, texts[room], layout.centre[room], tops[room], widths[room])
                for room in sorted(ROOMS)
            ),
            *_legend(height - _TOP - 8),
            "</svg>\n",
        ]
    )


def _inner(rooms: Rooms, room: str) -> str:
    return " · ".join(rooms.inner[room])


def _box(room: str, lines: tuple[str, str], centre: float, top: float, width: float) -> str:
    inner, what = lines
    _, fill, border = LINES[ROOMS[room][0]]
    rows = [
        (room, 'font-size="13" font-weight="600" fill="#0f172a"'),
        (what, f'font-size="10.5" fill="{_INK}"'),
    ]
    if inner:
        rows.append((inner, f'font-size="10" fill="{border}"'))
    first = top + (18 if inner else 24)
    step = 15 if inner else 16
    texts = "".join(
        f'<text x="{centre:.1f}" y="{first + number * step:.1f}" text-anchor="middle" {style}>{escape(text)}</text>'
        for number, (text, style) in enumerate(rows)
    )
    return (
        f'<rect x="{centre - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BOX:g}" rx="7" '
        f'fill="{fill}" stroke="{border}"/>{texts}'
    )


def _arrows(layout: Layout, widths: Mapping[str, float], tops: Mapping[str, float]) -> Iterator[str]:
    leaving = _ports(layout, widths, [(path[0], path[1]) for path in layout.paths.values()])
    arriving = _ports(layout, widths, [(path[-1], path[-2]) for path in layout.paths.values()])
    for path in layout.paths.values():
        points = [(leaving[path[0], path[1]], tops[path[0]] + _BOX)]
        for passage in path[1:-1]:
            points += [
                (layout.centre[passage], tops[passage]),
                (layout.centre[passage], tops[passage] + _BOX),
            ]
        points.append((arriving[path[-1], path[-2]], tops[path[-1]] - 1))
        yield (
            f'<path d="{_curve(points)}" fill="none" stroke="{_INK}" stroke-width="1.2" marker-end="url(#tip)"/>'
        )


def _ports(
    layout: Layout, widths: Mapping[str, float], ends: list[tuple[str, str]]
) -> dict[tuple[str, str], float]:
    """Where on a box's edge each arrow begins or ends: evenly spaced, in the order of their other ends."""
    found = {}
    for room in sorted({room for room, _ in ends}):
        others = sorted(
            (other for one, other in ends if one == room), key=lambda name: (layout.centre[name], name)
        )
        step = min(16.0, (widths[room] - 20) / max(1, len(others)))
        for number, other in enumerate(others):
            found[room, other] = layout.centre[room] + (number - (len(others) - 1) / 2) * step
    return found


def _curve(points: list[tuple[float, float]]) -> str:
    x, y = points[0]
    parts = [f"M{x:.1f} {y:.1f}"]
    for at, (next_x, next_y) in enumerate(points[1:]):
        if at % 2:
            parts.append(f"L{next_x:.1f} {next_y:.1f}")
        else:
            middle = (y + next_y) / 2
            parts.append(f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return "".join(parts)


def _legend(y: float) -> Iterator[str]:
    x = 14.0
    for text, fill, border in LINES.values():
        yield f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="11" height="11" rx="2" fill="{fill}" stroke="{border}"/>'
        yield f'<text x="{x + 16:.1f}" y="{y:.1f}" font-size="10.5" fill="{_INK}">{escape(text)}</text>'
        x += 16 + len(text) * _LETTER + 12
