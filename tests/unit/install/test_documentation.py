"""The page about installing matches the code."""

from __future__ import annotations

from pathlib import Path

from mlaudit.cluster import client
from mlaudit.install.packaged import packaged

PAGE = Path(__file__).resolve().parents[3] / "docs/install.md"


def test_every_variable_is_documented() -> None:
    """Each variable that is read has its place in the table, and so has its file form."""
    text = PAGE.read_text(encoding="utf-8")
    for name in (client.USERNAME, client.PASSWORD, client.API_KEY):
        assert f"| `{name}` |" in text
        assert f"`{name}_FILE`" in text


def test_every_role_and_part_is_documented() -> None:
    """Each role and component template that is installed is named."""
    text = PAGE.read_text(encoding="utf-8")
    names = {one.name for one in packaged("full") if one.kind in ("roles", "component_templates")}
    assert names
    assert all(f"`{name}`" in text for name in names)
