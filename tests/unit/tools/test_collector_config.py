"""The generated part of the collector's configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools.generators.collector_config import PATH, expression, outputs, prefixes

from mlaudit.errors import CatalogError

_PART = st.text("abc", min_size=1, max_size=2)
_NAME = st.lists(_PART, min_size=1, max_size=4).map(".".join)


@given(names=st.frozensets(_NAME, min_size=1, max_size=12), other=_NAME)
def test_expression_matches_exactly_the_names(names: frozenset[str], other: str) -> None:
    """Every name is matched whole, and no other one."""
    pattern = re.compile(f"^{expression(names)}$")
    assert all(pattern.match(name) for name in names)
    assert bool(pattern.match(other)) == (other in names)


def test_prefixes_are_the_objects_that_could_say_a_field_again() -> None:
    """A field that is also the beginning of another is no prefix, and the collector's own names are left out."""
    assert prefixes(["a.b.c", "a.b", "mlaudit.x.y", "event.id"]) == {"a"}


def test_configuration_without_the_statement_is_refused(tmp_path: Path) -> None:
    """Where the generated expression has no place any more, nothing is written."""
    (tmp_path / PATH).parent.mkdir()
    (tmp_path / PATH).write_text("processors: {}\n", encoding="utf-8")
    with pytest.raises(CatalogError, match="expected one statement"):
        outputs(tmp_path)
