"""The generated reference of events and the coverage table."""

from __future__ import annotations

import re

from mlaudit.assets.documents import coverage, events
from mlaudit.assets.generate import MARK
from mlaudit.catalog.load import load_catalog


def test_reference_has_every_kind_and_field() -> None:
    """Every kind has a heading of its own, and every field a row in the dictionary."""
    catalog = load_catalog()
    text = events(catalog)
    assert MARK in text.splitlines()[0]
    assert {f"### {name}" for name in catalog.kinds} <= set(text.splitlines())
    assert all(re.search(rf"^\| `{re.escape(name)}` \|", text, re.MULTILINE) for name in catalog.fields)


def test_links_lead_to_headings() -> None:
    """Every link from one document to a kind has the anchor that its heading gets."""
    catalog = load_catalog()
    headings = {
        re.sub(r"[^\w-]", "", line.removeprefix("### ").lower())
        for line in events(catalog).splitlines()
        if line.startswith("### ")
    }
    linked = set(re.findall(r"\(events\.md#([^)]*)\)", coverage(catalog)))
    assert linked
    assert linked <= headings


def test_every_line_of_the_policy_has_its_row_and_open_ones_say_so() -> None:
    """A line without a kind is shown as open; a line with one names it."""
    catalog = load_catalog()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in coverage(catalog).splitlines()}
    used = {line for kind in catalog.kinds.values() for line in kind.policy}
    for line in catalog.policy.lines():
        assert rows[line].endswith("**open** |") == (line not in used)


def test_tables_are_not_broken_by_a_bar() -> None:
    """Every row of a table has as many cells as its head."""
    for text in (events(load_catalog()), coverage(load_catalog())):
        cells = 0
        for line in text.splitlines():
            if not line.startswith("|"):
                cells = 0
                continue
            found = len(re.findall(r"(?<!\\)\|", line))
            cells = cells or found
            assert found == cells, line
