"""Writes Sphinx's input: the pages under their names in the site, and a page for each kind of reader.

The pages of the repository stay plain Markdown that a code host shows. Additions for the site are made here: links
that lead to other pages under their new names, copies of linked files, and tables of contents.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from typing import TYPE_CHECKING, Final

from tools.site.links import resolve
from tools.site.navigation import DECISIONS, FRONT, GROUPS, document, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

FILES: Final = "files"
"""Where copies of linked files that are no page lie in the site's sources."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')


def stage(root: Path, target: Path) -> None:
    """Writes all pages but the generated ones below ``target``, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    for source in sources(root):
        text = adapt(root, target, source)
        if source == FRONT:
            text += _contents("", (f"readers/{group.name}" for group in GROUPS), hidden=True)
        write(target, document(source), text)
    for group in GROUPS:
        text = f"# {group.title}\n\n{group.summary}\n"
        write(target, f"readers/{group.name}", text + _contents("readers", map(document, group.pages)))
    decisions = [document(source) for source in sources(root) if source.startswith(f"{DECISIONS}/")]
    write(target, document(DECISIONS), "# Decisions\n" + _contents("adr", decisions))


def write(target: Path, name: str, text: str) -> None:
    """Writes one page."""
    path = target / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def adapt(root: Path, target: Path, source: str) -> str:
    """The text of a page with links adapted to the site; the lines stay the same.

    A link to another page leads to that page; a link to a file, to a copy of it; a link to a folder becomes its text
    and the folder's path, since the site has no folders to show.
    """
    pages = {page: document(page) for page in [*sources(root), DECISIONS]}
    home = posixpath.dirname(document(source))

    def link(match: re.Match[str]) -> str:
        image, text, address = match.groups()
        place = resolve(source, address)
        if place is None or address.startswith("#"):
            return match[0]
        path, anchor = place
        behind = f"#{anchor}" if anchor else ""
        if path in pages:
            return f"{image}[{text}]({_relative(f'{pages[path]}.md', home)}{behind})"
        if (root / path).is_dir():
            return f"{text} (`{path}/` in the source)"
        copy = target / FILES / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, copy)
        return f"{image}[{text}]({_relative(f'{FILES}/{path}', home)})"

    return _outside_code((root / source).read_text(encoding="utf-8"), link)


def _outside_code(text: str, link: Callable[[re.Match[str]], str]) -> str:
    """Applies ``link`` to each link of ``text``, and makes anchors those of MyST, outside of code."""
    done: list[str] = []
    block: list[str] = []
    fence = ""

    def close() -> None:
        done.append(_outside_spans("".join(block), link))
        block.clear()

    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            done.append(line)
            if mark and mark[1].startswith(fence) and not line.strip(" `~\n"):
                fence = ""
        elif mark:
            close()
            fence = mark[1]
            done.append(line)
        elif anchor := _ANCHOR.fullmatch(line.strip()):
            close()
            done.append(f"({anchor[1]})=\n")
        else:
            block.append(line)
            if not line.strip():  # a span of code ends with its paragraph
                close()
    close()
    return "".join(done)


def _outside_spans(paragraph: str, link: Callable[[re.Match[str]], str]) -> str:
    spans = [match.span() for match in _CODE_SPAN.finditer(paragraph)]

    def replace(match: re.Match[str]) -> str:
        return match[0] if any(start < match.start() < end for start, end in spans) else link(match)

    return _LINK.sub(replace, paragraph)


def _relative(path: str, home: str) -> str:
    return posixpath.relpath(path, home or ".")


def _contents(home: str, names: Iterable[str], *, hidden: bool = False) -> str:
    lines = [_relative(name, home) for name in names]
    return "\n".join(["", "```{toctree}", ":hidden:" if hidden else ":maxdepth: 1", "", *lines, "```", ""])
