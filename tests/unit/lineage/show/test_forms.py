from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from tests.lineage_story import NEW, SCHEMA, hostile, lineage, model, tell
from tests.trail import Story

from mlaudit.lineage.chain.nodes import Stage
from mlaudit.lineage.show.geometry import cut, length
from mlaudit.lineage.show.json_document import SCHEMA as NAME
from mlaudit.lineage.show.json_document import document
from mlaudit.lineage.show.svg import draw
from mlaudit.lineage.show.text import render
from mlaudit.lineage.show.view import view

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><image href="https://evil.example/x.png" onload="x()"/>',
    "]]><!-- & &amp; &#0; -->",
    "\x1b[31mred\x1b]8;;https://evil.example\x07link\x1b\\",
    "one\ntwo\r\x00\x07\u2028three",
    "\u202egnp.exe\u2066",
    "\udfff lone",
    "[bold red]markup[/] [link=https://evil.example]",
    "w" * 4000,
    "漢字" * 50,
    "a\u0301" * 200,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_in_the_picture(text: str) -> None:
    """With any names in records, the picture is well-formed and holds no element or attribute from them."""
    drawn = draw(lineage(hostile(text)))

    root = ET.fromstring(drawn)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "style", "defs", "marker", "path", "rect", "g", "circle", "text", "tspan",
    }  # fmt: skip
    allowed = {
        "width", "height", "viewBox", "role", "aria-labelledby", "id", "refX", "refY", "markerWidth", "markerHeight",
        "orient", "class", "d", "x", "y", "rx", "r", "cx", "cy", "dx", "marker-end", "transform",
    }  # fmt: skip
    assert {name for element in root.iter() for name in element.attrib} <= allowed
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", drawn)
    assert drawn.isascii()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_in_the_text(text: str) -> None:
    """No line holds terminal control sequences, and no name splits a line."""
    lines = render(lineage(hostile(text)), 80)

    assert all(line.plain.isprintable() for line in lines)
    assert not any(span.style and "link" in str(span.style) for line in lines for span in line.spans)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_in_the_document(text: str) -> None:
    """The JSON keeps every name as it is, in ASCII and to the schema."""
    told = document(lineage(hostile(text)))

    jsonschema.validate(told, SCHEMA)
    written = json.dumps(told)
    assert written.isascii()
    assert json.loads(written) == told


def test_document_is_of_its_schema() -> None:
    """The schema has every field, and its name is in every document."""
    told = document(lineage(tell()), {"s": "holds"})

    jsonschema.validate(told, SCHEMA)
    assert told["schema"] == NAME == SCHEMA["properties"]["schema"]["const"]
    stream = told["evidence"]["streams"][0]
    assert stream["verified"] == "not looked at"


def test_picture_refers_to_nothing_outside() -> None:
    """The picture has no external link, image, font or style; the name space is the only address."""
    drawn = draw(lineage(tell()))

    assert re.findall(r"https?://[^\"'\s<]+", drawn) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|@import|url\((?!#)|<script|<foreignObject", drawn)


def test_picture_can_be_read_out() -> None:
    """The picture has a title and a description of the chain, and a tooltip on every card."""
    root = ET.fromstring(draw(lineage(tell())))

    assert root.attrib["role"] == "img"
    named = {element.attrib.get("id"): element.text for element in root}
    assert named["lineage-title"] == "Lineage of credit-risk:3"
    assert "artifact: credit-risk:3; deployment: loan-scoring" in (named["lineage-desc"] or "")
    tooltips = [group.findtext(f"{SVG}title") or "" for group in root.iter(f"{SVG}g")]
    assert all(tooltips)
    assert any(f"digest: {NEW}" in text and "ml.model.saved 019ab8a1-" in text for text in tooltips)


def test_picture_is_light_and_dark() -> None:
    """Every class that has a colour of its own on a light ground has one on a dark ground."""
    style = ET.fromstring(draw(lineage(tell()))).findtext(f"{SVG}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme:dark)")

    coloured = set(re.findall(r"\.([a-z]+)\{[^}]*#[0-9a-f]", light))
    assert coloured - set(re.findall(r"\.([a-z]+)[{,]", dark)) == set()
    assert "text{fill:#e2e8f0}" in dark


def test_big_lineage_is_summed_up() -> None:
    """Hundreds of runs, data sets and services take the space of a few, with the number of the others."""
    story = tell(100)
    for number in range(50):
        story.tell("audit.ml.prediction", service=f"service-{number:02}", **model("3", NEW))
        data = {
            "ml.training.run_id": "fit-99",
            "ml.dataset.name": f"/data/{number}",
            "ml.dataset.operation": "read",
        }
        story.tell("audit.data.read", **data)
    told = lineage(story)

    shown = view(told)

    assert all(len(cards) <= 10 for cards in shown.columns.values())
    assert [cards[-1].title for cards in shown.columns.values()][:2] == ["and 48 more", "and 99 more trials"]
    assert len(draw(told)) < 60_000
    ids = {card.id for cards in shown.columns.values() for card in cards}
    assert all(edge.source in ids and edge.target in ids for edge in shown.edges)


@pytest.mark.parametrize("width", [10, 80, 97, 200])
def test_text_keeps_to_the_width(width: int) -> None:
    """No line is longer than the terminal, except for commands, which must not be broken."""
    for line in render(lineage(tell()), width, verify="mlaudit verify"):
        assert len(line.plain) <= max(width, 80) or line.plain.startswith("  mlaudit verify")


def test_command_to_copy_is_harmless() -> None:
    """A stream named like a command is quoted in the command to copy."""
    story = tell(1)
    story.tell("audit.ml.prediction", **model("3", NEW), audit__sequence__stream_id="$(touch x); `y`")

    lines = [line.plain for line in render(lineage(story), verify="mlaudit verify")]

    assert "  mlaudit verify --stream '$(touch x); `y`'" in lines


def test_verdicts_are_told() -> None:
    """The result of verification replaces the hint, in text and picture."""
    told = lineage(tell())
    proofs = dict.fromkeys(told.streams, "holds")
    text = "\n".join(line.plain for line in render(told, proofs=proofs))
    broken = proofs | {next(iter(proofs)): "does not hold: chain.gap"}

    assert text.count(": holds") == len(proofs)
    assert "to prove them" not in text
    assert "All streams hold" in draw(told, proofs)
    assert "Of 1 stream it is not proven" in draw(told, broken)


def test_cut_text_fits() -> None:
    """Truncated text fits its space and is marked as truncated."""
    for text in ("mmmmmmmmmmmmmmmmmmmmmm", "漢字漢字漢字漢字漢字漢字", "illi" * 20):
        shown = cut(text, 11, 80)
        assert shown.endswith("…")
        assert length(shown, 11) <= 80
    assert cut("short", 11, 80) == "short"
    assert cut("/a/very/long/way/to/the/loans.parquet", 11, 90).endswith("/loans.parquet")


def test_every_stage_has_a_card() -> None:
    """A stage without records has a card that says so."""
    story = Story()
    story.tell("audit.ml.model.saved", **model("1", NEW))
    told = lineage(story)

    columns: dict[Stage, Any] = dict(view(told).columns)

    assert all(columns[stage] for stage in Stage)
    assert columns[Stage.PREDICTIONS][0].lines[0].value == "no prediction was recorded"
