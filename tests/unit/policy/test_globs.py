"""Patterns of names and paths."""

from __future__ import annotations

import pytest

from mlaudit.policy.globs import covers, glob_fault, name_matcher, path_matcher, sample


@pytest.mark.parametrize(
    ("pattern", "text", "name", "path"),
    [
        ("*", "a/b.c", True, False),
        ("**", "a/b.c", True, True),
        ("a*", "a", True, True),
        ("a*", "ba", False, False),
        ("A*", "ab", False, False),
        ("/a/*", "/a/b", True, True),
        ("/a/*", "/a/b/c", True, False),
        ("/a/**", "/a", False, True),
        ("/a/**", "/a/b/c", True, True),
        ("/a/**", "/ab", False, False),
        ("/a/**/z", "/a/b/c/z", True, True),
        ("/a?c", "/abc", True, True),
        ("/a?c", "/a/c", True, False),
        ("/a[!b]c", "/a/c", True, False),
        ("[a-c]x", "bx", True, True),
        ("[]x", "[]x", False, False),
        ("a.b", "axb", False, False),
        ("/items/{id}", "/items/{id}", True, True),
        ("a", "a\n", False, False),
        ("*", "a\nb", True, True),
        ("[^a]", "b", False, False),
        ("[^a]", "^", True, True),
    ],
)
def test_a_pattern_matches_the_whole_text_in_its_dialect(
    pattern: str, text: str, name: bool, path: bool
) -> None:
    """Names: * crosses everything. Paths: * stays in a segment, ** crosses; a trailing /** includes the folder."""
    if pattern == "[]x":  # an unclosed class is literal text
        assert name_matcher((pattern,))("[]x")
        return
    assert bool(name_matcher((pattern,))(text)) is name
    assert bool(path_matcher((pattern,))(text)) is path


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("", "empty"),
        ("a" * 513, "at most 512"),
        ("*a" * 17, "at most 16 wildcards"),
        ("[z-a]", "shell-style"),
        ("a[b", None),
    ],
)
def test_a_bad_pattern_is_a_fault_not_an_exception(pattern: str, fault: str | None) -> None:
    """Empty, too long, explosive and reversed patterns have different faults."""
    found = glob_fault(pattern)
    assert (found is None) if fault is None else (found is not None and fault in found)


@pytest.mark.parametrize(
    ("wide", "narrow", "path", "expected"),
    [
        ("*", "a*", False, True),
        ("a*", "ab*", False, True),
        ("ab*", "a*", False, False),
        ("a?", "ab", False, True),
        ("/a/**", "/a/*/c", True, True),
        ("/a/*", "/a/**", True, False),
        ("*b", "*b", False, True),
        ("*b", "ab*", False, False),
    ],
)
def test_covering_is_said_only_when_it_is_sure(wide: str, narrow: str, path: bool, expected: bool) -> None:
    """A pattern covers another if it matches all that the other does; unsure means no."""
    assert covers(wide, narrow, path=path) is expected


@pytest.mark.parametrize("pattern", ["a*b", "/x/**/y", "v[12]", "v[!1]", "a?c", "plain"])
def test_a_sample_is_matched_by_its_pattern(pattern: str) -> None:
    """The sample of a pattern is a text that it matches, except for negated classes of that very letter."""
    if "!" not in pattern:
        assert path_matcher((pattern,))(sample(pattern))
    assert "*" not in sample(pattern)
