"""What changed in the software between two starts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlaudit.capture.process.environment import changes, difference

SOFTWARE = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["1", "2", "3"]))


@given(SOFTWARE, SOFTWARE)
def test_difference_makes_the_one_of_the_other(before: dict[str, str], now: dict[str, str]) -> None:
    """Applying the reported removals, additions and updates gives the new software."""
    added, removed, updated = difference(before, now)
    made = {name: version for name, version in before.items() if name not in removed}
    assert all(made[name] == old for name, (old, _) in updated.items())
    made |= added | {name: new for name, (_, new) in updated.items()}
    assert made == now


@given(SOFTWARE, SOFTWARE)
def test_the_way_back_is_the_reverse(before: dict[str, str], now: dict[str, str]) -> None:
    """In the other direction additions become removals, and versions are swapped."""
    there, back = difference(before, now), difference(now, before)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert there.updated == {name: (new, old) for name, (old, new) in back.updated.items()}


@given(SOFTWARE, SOFTWARE)
def test_every_change_is_in_exactly_one_list(before: dict[str, str], now: dict[str, str]) -> None:
    """The three lists are disjoint, sorted, and together match the sentences."""
    parts = difference(before, now)
    names = [name for part in parts for name in part]
    assert all(list(part) == sorted(part) for part in parts)
    assert sorted(names) == [sentence.partition(" ")[0] for sentence in changes(before, now)]


@given(SOFTWARE)
def test_nothing_changes_without_a_change(software: dict[str, str]) -> None:
    """The same software has no difference."""
    assert difference(software, dict(software)) == ({}, {}, {})
