"""Links and anchors of the Markdown pages, as a code host sees them; checked without building the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

from tools.site.navigation import sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from markdown_it.token import Token

_HTML_ID = re.compile(r"""<\w+\b[^>]*?\b(?:id|name)=["']([^"']+)["']""")
_HTML_LINK = re.compile(r"""<\w+\b[^>]*?\b(?:href|src)=["']([^"']+)["']""")


def slug(title: str) -> str:
    """The anchor that a code host gives a heading: ``What's new?`` is ``whats-new``."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Every anchor of a page: its headings, a repeated one numbered, and the ids of its HTML."""
    found: set[str] = set()
    tokens = _tokens(text)
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            title = "".join(
                child.content
                for child in tokens[index + 1].children or ()
                if child.type in ("text", "code_inline")
            )
            name, number = slug(title), 0
            while (candidate := f"{name}-{number}" if number else name) in found:
                number += 1
            found.add(candidate)
    for part in _flat(tokens):
        if part.type in ("html_block", "html_inline"):
            found.update(_HTML_ID.findall(part.content))
    return found


def links(text: str) -> list[str]:
    """Every target that a page links to or shows as an image."""
    found: list[str] = []
    for part in _flat(_tokens(text)):
        if part.type == "link_open":
            found.append(str(part.attrGet("href")))
        elif part.type == "image":
            found.append(str(part.attrGet("src")))
        elif part.type in ("html_block", "html_inline"):
            found.extend(_HTML_LINK.findall(part.content))
    return found


def resolve(source: str, target: str) -> tuple[str, str] | None:
    """The path in the repository and the anchor that a link of ``source`` leads to; None for another site."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    if not parts.path:
        return source, unquote(parts.fragment)
    parent = PurePosixPath(source).parent.as_posix()
    return posixpath.normpath(posixpath.join(parent, unquote(parts.path))), unquote(parts.fragment)


def broken(root: Path) -> list[str]:
    """Each link of a page to a file or an anchor that does not exist, as a sentence."""
    texts = {source: (root / source).read_text(encoding="utf-8") for source in sources(root)}
    known = {source: anchors(text) for source, text in texts.items()}
    found: list[str] = []
    for source, text in texts.items():
        for target in links(text):
            place = resolve(source, target)
            if place is None:
                continue
            path, anchor = place
            if path.startswith(("../", "/")):
                found.append(f"{source} links to {target}, outside of the repository")
            elif not (root / path).exists():
                found.append(f"{source} links to {target}, but there is no {path}")
            elif anchor and anchor not in known.get(path, ()):
                found.append(f"{source} links to {target}, but {path} has no anchor {anchor}")
    return found


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from token.children or ()
