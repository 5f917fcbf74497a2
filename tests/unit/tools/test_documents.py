"""The generated reference of events and the coverage table."""

from __future__ import annotations

import re

from tools.generate import MARK
from tools.generators.documents import coverage, events

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


def test_every_line_of_the_policy_has_its_heading_and_open_ones_say_so() -> None:
    """A line that nothing meets or nothing proves is shown as open; any other names its kinds and proofs."""
    policy = load_catalog().policy
    bare = policy.model_copy(
        update={
            "sections": tuple(
                section.model_copy(
                    update={"lines": tuple(line.model_copy(update={"proofs": ()}) for line in section.lines)}
                )
                for section in policy.sections[:1]
            )
        }
    )
    text = coverage(load_catalog())
    for line in policy.lines().values():
        assert f"### {line.id} " in text
        assert all(f"`{proof}`" in text for proof in line.proofs)
    shown = coverage(load_catalog().model_copy(update={"policy": bare}))
    assert shown.count("\n**open**\n") == len(bare.lines())


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
