"""Shell-style patterns, compiled once to regular expressions.

Two dialects. *Names* (kinds, services, models, actors, field names): ``*`` matches anything, dots and slashes
included. *Paths* (routes, watched and model files): ``*`` and ``?`` stay inside one segment, ``**`` crosses
segments. Both support ``[abc]`` and ``[!abc]``. Matching is case-sensitive and always covers the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

Matcher = Callable[[str], object]
"""Truthy when the whole text matches."""

MAX_PATTERN: Final = 512
"""The longest pattern that a policy may contain; a longer one is a fault."""

_CAPTURE: Final = re.compile(r"\{(model|version)\}")

_WILDCARDS: Final = frozenset("*?[")


def has_wildcard(pattern: str) -> bool:
    """Whether the pattern can match more than its own text."""
    return not _WILDCARDS.isdisjoint(pattern)


def glob_fault(pattern: str) -> str | None:
    """The fault of a pattern, or None.

    Never raises: a policy's faults are listed all at once.
    """
    if not pattern:
        return "expected a pattern, found an empty text"
    if len(pattern) > MAX_PATTERN:
        return f"expected at most {MAX_PATTERN} characters, found {len(pattern)}"
    if pattern.count("*") > 16:
        return "expected at most 16 wildcards in one pattern"
    try:
        re.compile(_translate(pattern, path=False))
    except re.error as error:
        return f"expected a shell-style pattern, found {pattern!r} ({error})"
    return None


def route_regex(pattern: str) -> str:
    """The regular expression of a route's path, unanchored and without groups.

    ``{model}`` and ``{version}`` match a text within one segment. Any other name in braces matches itself, as in the
    templates of frameworks.
    """
    return "[^/]+".join(_translate(part, path=True) for part in _CAPTURE.split(pattern)[::2])


def capture_regex(pattern: str) -> re.Pattern[str] | None:
    """As ``route_regex``, with groups named ``model`` and ``version``; None where the path names neither."""
    parts = _CAPTURE.split(pattern)
    if len(parts) == 1:
        return None
    body = "".join(
        f"(?P<{part}>[^/]+)" if place % 2 else _translate(part, path=True) for place, part in enumerate(parts)
    )
    return re.compile(f"{body}/?", re.DOTALL)


def capture_fault(pattern: str) -> str | None:
    """The fault of the names in braces of a route's path, or None."""
    names = _CAPTURE.findall(pattern)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return f"expected {{{twice[0]}}} once in a path, found it {names.count(twice[0])} times"
    if "version" in names and "model" not in names:
        return "expected {model} beside {version}: a version means nothing without its model"
    return None


@lru_cache(maxsize=1024)  # patterns come only from policy files, never from traffic
def name_matcher(patterns: tuple[str, ...]) -> Matcher:
    """One matcher for any of several name patterns."""
    return _any_of(patterns, path=False)


@lru_cache(maxsize=1024)
def path_matcher(patterns: tuple[str, ...]) -> Matcher:
    """One matcher for any of several path patterns."""
    return _any_of(patterns, path=True)


def covers(wide: str, narrow: str, *, path: bool = False) -> bool:
    """Whether everything that ``narrow`` matches is also matched by ``wide``.

    Conservative: False when it cannot decide, so that no reachable rule is reported as unreachable.
    """
    if wide == narrow:
        return True
    if not has_wildcard(narrow):
        return bool((path_matcher if path else name_matcher)((wide,))(narrow))
    everything = "**" if path else "*"
    if not wide.endswith(everything) or has_wildcard(wide[: -len(everything)]):
        return False
    prefix = wide[: -len(everything)]
    literal = re.split(r"[*?\[]", narrow, maxsplit=1)[0]
    return literal.startswith(prefix)


def sample(pattern: str) -> str:
    """A text that the pattern matches, for comparing two policies; not unique."""
    text = re.sub(r"\*+", "x", _CAPTURE.sub("x", pattern)).replace("?", "x")
    return re.sub(r"\[!?([^\]])[^\]]*\]", lambda found: found.group(1), text)


def _any_of(patterns: Iterable[str], *, path: bool) -> Matcher:
    listed = tuple(patterns)
    everything = "**" if path else "*"
    if everything in listed:
        return _always
    if not any(has_wildcard(pattern) for pattern in listed):
        return frozenset(listed).__contains__
    body = "|".join(f"(?:{_translate(pattern, path=path)})" for pattern in listed)
    return re.compile(body, re.DOTALL).fullmatch


def _always(_: str) -> bool:
    return True


def _translate(pattern: str, *, path: bool) -> str:
    out: list[str] = []
    index = 0
    any_char = "[^/]" if path else "."
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            stars = 1
            while index < len(pattern) and pattern[index] == "*":
                index += 1
                stars += 1
            if path and stars > 1:
                # "/config/**" also means "/config" itself, as in gitignore and Ant
                if out and out[-1] == "/" and index == len(pattern):
                    out[-1] = "(?:/.*)?"
                else:
                    out.append(".*")
            else:
                out.append(f"{any_char}*")
        elif char == "?":
            out.append(any_char)
        elif char == "[":
            end = pattern.find("]", index + 1 if pattern[index : index + 1] != "!" else index + 2)
            if end < 0:
                out.append(r"\[")
                continue
            content = pattern[index:end].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            index = end + 1
            negated = content.startswith("!")
            content = content[1:] if negated else content
            out.append(f"[{'^' if negated else ''}{content}{'/' if path and negated else ''}]")
        else:
            out.append("/" if char == "/" else re.escape(char))
    return "".join(out)
