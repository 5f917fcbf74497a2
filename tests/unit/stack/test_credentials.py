"""Tokens of named senders."""

from __future__ import annotations

import re

import pytest

from mlaudit.errors import StackError
from mlaudit.stack.credentials import named_token


def test_named_token_carries_the_name_and_a_secret() -> None:
    """The token has the form that the collector reads a name from, and is another each time."""
    token = named_token("fraud-scoring.v2")
    assert re.fullmatch(r"mlaudit[.]fraud-scoring[.]v2[.][0-9a-f]{64}", token)
    assert token != named_token("fraud-scoring.v2")


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "../x/y", "x" * 201, "naïve"])
def test_name_that_cannot_be_part_of_a_token_is_refused(name: str) -> None:
    """A token with such a name would be cut off, or be no header."""
    with pytest.raises(StackError, match="expected a sender's name"):
        named_token(name)
