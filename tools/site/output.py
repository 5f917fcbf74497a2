"""Checks the built site: every link has a target in the site, and no page loads external resources."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

_LOADED: Final = {
    "img": "src",
    "script": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "object": "data",
}
_NOT_LOADED: Final = frozenset(
    {"next", "prev", "index", "search", "canonical", "author", "copyright", "top", "up"}
)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        self.anchors.update(of[name] for name in ("id", "name") if of.get(name))
        if tag in _LOADED and of.get(_LOADED[tag]) and of.get("rel") not in _NOT_LOADED:
            self.loads.append(of[_LOADED[tag]])
        if tag == "a" and "href" in of:
            self.links.append(of["href"])


def faults(site: Path) -> list[str]:
    """Each broken link and each external resource, as a sentence."""
    written = (
        path for path in sorted(site.rglob("*.html")) if site / "_static" not in path.parents
    )  # the theme's own
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in written}
    found: list[str] = []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        found.extend(f"{name} loads {one}" for one in page.loads if urlsplit(one).scheme not in ("", "data"))
        found.extend(f"{name} loads {one}" for one in page.loads if one.startswith("//"))
        for target in (*page.links, *page.loads):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.is_file():
                found.append(f"{name} links to {target}, which is not in the site")
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors:
                found.append(f"{name} links to {target}, an anchor that is not in the site")
    return found
