"""The picture of the packages: what it shows, that it is in order, and that it cannot go stale."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tools.generators import architecture
from tools.generators.architecture import ROOMS, draw
from tools.generators.import_graph import Rooms, read_rooms
from tools.generators.layered_layout import place

from mlaudit.errors import CatalogError

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).resolve().parents[3]


def _rooms(**imports: str) -> Rooms:
    return Rooms(
        {room: frozenset(names.split()) for room, names in imports.items()}, dict.fromkeys(imports, ())
    )


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    """The rooms as they are today."""
    return read_rooms()


def test_arrows_that_follow_from_others_are_left_out() -> None:
    """Of a → b → c and a → c only the first two are drawn."""
    assert _rooms(a="b c", b="c", c="").arrows() == [("a", "b"), ("b", "c")]


def test_a_room_stands_above_all_that_it_imports(rooms: Rooms) -> None:
    """No package imports from its own floor or from above."""
    level = {room: number for number, floor in enumerate(rooms.floors()) for room in floor}
    assert len(level) == len(rooms.imports) > 20
    assert all(level[room] > level[other] for room, imported in rooms.imports.items() for other in imported)


def test_arrows_reach_every_import(rooms: Rooms) -> None:
    """From a package one gets along the arrows to everything that it imports."""
    arrows = rooms.arrows()
    assert len(arrows) < sum(map(len, rooms.imports.values()))
    reached: dict[str, set[str]] = {}
    for floor in rooms.floors():
        for room in floor:
            nearest = {target for source, target in arrows if source == room}
            reached[room] = nearest.union(*(reached[one] for one in nearest))
    assert all(imported <= reached[room] for room, imported in rooms.imports.items())


def test_a_circle_is_an_error() -> None:
    """Packages that import each other cannot be put on floors, and are named."""
    with pytest.raises(CatalogError, match="circle: a, b"):
        _rooms(a="b", b="a c", c="").floors()


def test_a_package_nobody_described_is_an_error(rooms: Rooms) -> None:
    """A new package has to be described before it is drawn, and a description without a package has to go."""
    more = Rooms({**rooms.imports, "billing": frozenset()}, {**rooms.inner, "billing": ()})
    with pytest.raises(CatalogError, match="billing: expected"):
        draw(more)
    fewer = {room: imported for room, imported in rooms.imports.items() if room != "cli"}
    with pytest.raises(CatalogError, match="cli: expected"):
        draw(Rooms(fewer, rooms.inner))


def test_same_rooms_give_the_same_bytes(rooms: Rooms) -> None:
    """Neither the order in which packages are found nor a second run changes the picture."""
    backwards = Rooms(dict(reversed(rooms.imports.items())), rooms.inner)
    assert draw(backwards) == draw(rooms) == (ROOT / architecture.PATH).read_text(encoding="utf-8")


def test_everything_is_drawn_inside_and_apart(rooms: Rooms) -> None:
    """Each box lies within the picture, none covers another, and each has its name and its line of work."""
    root = ET.fromstring(draw(rooms))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width <= 800
    boxes = [
        tuple(float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        for box in root.iter(f"{SVG}rect")
        if box.get("rx") == "7"
    ]
    assert len(boxes) == len(ROOMS)
    for number, (x, y, w, h) in enumerate(boxes):
        assert 0 <= x <= width - w
        assert 0 <= y <= height - h
        for other_x, other_y, other_w, _ in boxes[number + 1 :]:
            assert other_y != y or other_x >= x + w or other_x + other_w <= x
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert set(ROOMS) <= set(texts)
    assert {line for line, _, _ in architecture.LINES.values()} <= set(texts)


def test_arrows_pass_no_box(rooms: Rooms) -> None:
    """An arrow over several floors goes between their boxes, not behind them."""
    root = ET.fromstring(draw(rooms))
    boxes = [box.attrib for box in root.iter(f"{SVG}rect") if box.get("rx") == "7"]
    drawn = [path.attrib["d"] for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(drawn) == len(rooms.arrows())
    straight = [match for path in drawn for match in re.findall(r"([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", path)]
    assert straight
    for x, top, end, _ in straight:
        assert x == end
        on_floor = [box for box in boxes if box["y"] == top]
        assert on_floor
        for box in on_floor:
            assert not float(box["x"]) <= float(x) <= float(box["x"]) + float(box["width"])


def test_a_crossing_is_undone() -> None:
    """Boxes are put in the order in which fewest arrows cross."""
    layout = place([["a", "b"], ["c", "d"]], [("c", "b"), ("d", "a")], dict.fromkeys("abcd", 50.0), 200)
    assert (layout.centre["c"] - layout.centre["d"]) * (layout.centre["b"] - layout.centre["a"]) > 0
