"""Layout of the picture: where its cards and edges are. Units are pixels; y grows downwards."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlaudit.lineage.chain.nodes import Stage
from mlaudit.safety.printable import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlaudit.lineage.chain.nodes import Edge
    from mlaudit.lineage.show.view import Card, View
    from mlaudit.lineage.show.words import Line

MARGIN: Final = 32
WIDTH: Final = 218
GUTTER: Final = 58
TOP: Final = 124
LANE: Final = 18
GAP: Final = 16
INDENT: Final = 16
PADDING: Final = 13
TITLE_SIZE: Final = 13.0
SIZE: Final = 11.0
LINE: Final = 16
PORT: Final = 21
_TITLE: Final = 31
_RADIUS: Final = 8.0
_WRAPPED: Final = 4
_STAGES: Final = list(Stage)
_NARROW: Final = frozenset("fijlrtI.,:;'|!()[]{} /\\-")
_BROAD: Final = frozenset("mwMW@%")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of text in a card."""

    label: str
    value: str
    tone: str


@dataclass(frozen=True, slots=True)
class Box:
    """A card and its place."""

    card: Card
    title: str
    rows: tuple[Row, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """An edge and its path; where it has a stretch of its own, its label's place."""

    edge: Edge
    path: str
    label: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Geometry:
    """The complete layout."""

    boxes: tuple[Box, ...]
    routes: tuple[Route, ...]
    width: float
    bottom: float


def column(stage: Stage) -> float:
    """The left edge of a stage's column."""
    return MARGIN + _STAGES.index(stage) * (WIDTH + GUTTER)


def arrange(view: View) -> Geometry:
    """Lays out every card and edge."""
    lanes = _lanes(view)
    top = TOP + len(set(lanes.values())) * LANE
    boxes: list[Box] = []
    for stage, cards in view.columns.items():
        y = float(top)
        for card in cards:
            indent = min(card.depth, 4) * INDENT
            box = _box(card, column(stage) + indent, y, WIDTH - indent)
            boxes.append(box)
            y += box.height + GAP
    by_id = {box.card.id: box for box in boxes}
    routes = [
        _route(edge, by_id, lanes) for edge in view.edges if edge.source in by_id and edge.target in by_id
    ]
    bottom = max(box.y + box.height for box in boxes)
    return Geometry(tuple(boxes), tuple(routes), column(Stage.PREDICTIONS) + WIDTH + MARGIN, bottom)


def length(text: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """Estimated width of a text without knowing its font; an overestimate rather than an underestimate."""
    total = 0.0
    for sign in text:
        if unicodedata.east_asian_width(sign) in "WF":
            total += 1.0
        elif mono:
            total += 0.62
        elif sign in _NARROW:
            total += 0.38
        elif sign in _BROAD:
            total += 0.98
        else:
            total += 0.72 if sign.isupper() else 0.61
    return total * size * (1.12 if bold else 1.0)


def cut(text: str, size: float, room: float, *, mono: bool = False, bold: bool = False) -> str:
    """The text, truncated to fit: a path keeps its end, other texts their beginning."""
    if length(text, size, mono=mono, bold=bold) <= room:
        return text
    if "/" in text:
        return f"…{_fitting(text[::-1], size, room, mono=mono, bold=bold)[::-1].lstrip()}"
    return f"{_fitting(text, size, room, mono=mono, bold=bold).rstrip()}…"


def _fitting(text: str, size: float, room: float, *, mono: bool, bold: bool) -> str:
    """The longest beginning that fits together with an ellipsis."""
    kept = 0
    used = length("…", size, mono=mono, bold=bold)
    for sign in text:
        used += length(sign, size, mono=mono, bold=bold)
        if used > room:
            break
        kept += 1
    return text[:kept]


def _box(card: Card, x: float, y: float, width: float) -> Box:
    room = width - 2 * PADDING
    rows = [row for line in card.lines for row in _rows(line, room)]
    # Room for the mark at the right of the title.
    title = cut(safe(card.title), TITLE_SIZE, room - 14, bold=True)
    height = _TITLE + len(rows) * LINE + (9 if rows else 3)
    return Box(card, title, tuple(rows), x, y, width, height)


def _rows(line: Line, room: float) -> list[Row]:
    mono, bold = line.tone == "digest", line.tone == "warning"
    label, value = safe(line.label), safe(line.value)
    if label:
        label = cut(label, SIZE, room * 0.5)
        return [
            Row(label, cut(value, SIZE, room - length(f"{label}  ", SIZE), mono=mono, bold=bold), line.tone)
        ]
    rows: list[str] = []
    for word in value.split(" "):
        longer = f"{rows[-1]} {word}" if rows else word
        if rows and length(longer, SIZE, bold=bold) > room:
            rows.append(word)
        elif rows:
            rows[-1] = longer
        else:
            rows.append(word)
    if len(rows) > _WRAPPED:
        rows = [*rows[: _WRAPPED - 1], f"{rows[_WRAPPED - 1]} …"]
    return [Row("", cut(row, SIZE, room, bold=bold), line.tone) for row in rows]


def _stages(view: View) -> dict[str, int]:
    return {card.id: _STAGES.index(stage) for stage, cards in view.columns.items() for card in cards}


def _lanes(view: View) -> dict[tuple[str, int, int], int]:
    """Edges that pass over a column run above the cards: which lane, by kind and columns."""
    stages = _stages(view)
    spans = {
        (edge.kind, stages[edge.source], stages[edge.target])
        for edge in view.edges
        if edge.source in stages and edge.target in stages and stages[edge.target] - stages[edge.source] > 1
    }
    # The shortest edges are nearest to the cards.
    ordered = sorted(spans, key=lambda span: (span[1] - span[2], span))
    return {span: number for number, span in enumerate(ordered)}


def _route(edge: Edge, boxes: dict[str, Box], lanes: dict[tuple[str, int, int], int]) -> Route:
    source, target = boxes[edge.source], boxes[edge.target]
    columns = _STAGES.index(source.card.stage), _STAGES.index(target.card.stage)
    if columns[0] == columns[1]:
        return Route(edge, _elbow(source, target))
    x1, y1 = source.x + source.width, source.y + PORT
    x2, y2 = target.x - 5, target.y + PORT
    lane = lanes.get((edge.kind, *columns))
    if lane is None:
        bend = (x2 - x1) / 2
        return Route(
            edge, f"M{_n(x1)} {_n(y1)}C{_n(x1 + bend)} {_n(y1)} {_n(x2 - bend)} {_n(y2)} {_n(x2)} {_n(y2)}"
        )
    y = TOP + lane * LANE - 6
    out, home = x1 + 14 + lane * 7, x2 - 13 - lane * 7
    points = [(x1, y1), (out, y1), (out, y), (home, y), (home, y2), (x2, y2)]
    return Route(edge, _rounded(points), (column(_STAGES[columns[0] + 1]), y - 4))


def _elbow(parent: Box, child: Box) -> str:
    """A path from below the parent to the side of the child."""
    if child.y < parent.y:  # parents that form a cycle are drawn at the side
        return f"M{_n(parent.x)} {_n(parent.y + PORT)}H{_n(parent.x - 10)}V{_n(child.y + PORT)}H{_n(child.x - 5)}"
    x, y = parent.x + 7, parent.y + parent.height
    return f"M{_n(x)} {_n(y)}V{_n(child.y + PORT)}H{_n(child.x - 1)}"


def _rounded(points: Sequence[tuple[float, float]]) -> str:
    """An orthogonal line through the points, with rounded corners."""
    parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        start, end = _towards(here, before), _towards(here, after)
        parts.append(f"L{_n(start[0])} {_n(start[1])}Q{_n(here[0])} {_n(here[1])} {_n(end[0])} {_n(end[1])}")
    parts.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    return "".join(parts)


def _towards(here: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    across, down = other[0] - here[0], other[1] - here[1]
    size = abs(across) + abs(down)
    share = min(_RADIUS, size / 2) / size if size else 0.0
    return here[0] + across * share, here[1] + down * share


def _n(value: float) -> str:
    """A number in its shortest form."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
