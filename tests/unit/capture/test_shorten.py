"""Texts that are cut before they are searched for secrets."""

from __future__ import annotations

import pytest

from mlaudit.capture.shorten import shortened, without_middle
from mlaudit.policy.scrub import Scrubber

SCRUBBER = Scrubber(b"k" * 32)


def test_short_text_is_left_alone() -> None:
    """Up to the limit nothing is cut."""
    assert shortened("a b", 3) == "a b"
    assert without_middle("a\nb", 3) == "a\nb"


def test_long_text_ends_between_words() -> None:
    """A text is cut before the word that does not fit, and says so."""
    assert shortened("one two three", 10) == "one two…"
    assert shortened("key=value,other=1234567", 16) == "key=value,…"


@pytest.mark.parametrize("limit", range(8, 60))
@pytest.mark.parametrize(
    "secret",
    ["AKIAIOSFODNN7EXAMPLE", "4111 1111 1111 1111", "erika@example.org", "DE89 3704 0044 0532 0130 00"],
)
def test_no_half_of_a_secret_is_left(secret: str, limit: int) -> None:
    """Wherever it is cut, what is left holds no part of a secret that scrubbing would not find."""
    text = f"the value is {secret} and then more words follow it"
    left = SCRUBBER.text(shortened(text, limit))
    assert len(left) <= max(limit, len("[account]") + 13) + 40
    assert not any(part in left for part in secret.split() if len(part) > 2)


def test_middle_is_cut_between_lines() -> None:
    """The end of a long text begins with a whole line, so that what belongs to a key stays beside it."""
    lines = [f"line {number} password=secret{number}" for number in range(100)]
    cut = without_middle("\n".join(lines), 400)
    assert len(cut) <= 400
    assert all(line in lines or line.endswith("…") for line in cut.split("\n"))
    assert cut.endswith(lines[-1])
