"""The one reader of mlaudit's own YAML: plain values, the line of every key, and every fault of the text at once.

Stricter than YAML on purpose: no duplicate keys, no tags, no anchors (an alias bomb is a known attack, and people
read a policy), and every value but ``true``, ``false``, ``null`` and plain numbers is text. So ``22:00``, ``on`` and
``2026-11-25`` stay as written. ``parse_foreign`` reads what others wrote for other programs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

Path = tuple[str | int, ...]

MAX_CHARACTERS: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 100_000

_INT: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}")
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None, "~": None, "": None}
_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_PLAIN_TAGS: Final = frozenset({_TEXT_TAG, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


@dataclass(slots=True)
class Document:
    """A parsed file: its value, the line of every place in it, and the faults of its text as (line, text).

    ``unread`` are the places whose value could not be parsed; other faults there are not reported.
    """

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    unread: set[Path] = field(default_factory=set)

    def line(self, path: Path) -> int:
        """The line of a place, or of its nearest parent that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(
    text: str, *, empty: str = "expected a mapping, found an empty file", aliases: bool = False
) -> Document:
    """Parses a text. Never raises: errors are in ``faults``.

    Args:
        text: what the file holds.
        empty: the fault of a text without any value.
        aliases: accepts them, up to ``MAX_NODES`` values once they are written out: for files of the checkout.
    """
    document = Document()
    if len(text) > MAX_CHARACTERS:
        document.faults.append((1, f"expected at most {MAX_CHARACTERS} characters, found {len(text)}"))
        return document
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        document.faults.append((mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}"))
        return document
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML forbids
        document.faults.append((1, f"not YAML: {str(error).splitlines()[0]}"))
        return document
    except RecursionError:
        document.faults.append((1, f"expected at most {MAX_DEPTH} levels of nesting, found more"))
        return document
    if root is None:
        document.faults.append((1, empty))
        return document
    document.value = _Builder(document, aliases=aliases).build(root, ())
    return document


def parse_foreign(text: str | bytes) -> Any:
    """The value of a YAML text of another program, as YAML means it: aliases, dates and duplicate keys included.

    The value may share parts, and be endless when they are written out.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not YAML, or has tags of a program's own.
    """
    return yaml.safe_load(text)


class _Builder:
    def __init__(self, document: Document, *, aliases: bool) -> None:
        self._document = document
        self._aliases = aliases
        self._seen: set[int] = set()
        self._nodes = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._document.lines.setdefault(path, _line(node))
        if id(node) in self._seen and not isinstance(node, yaml.ScalarNode) and not self._aliases:
            return self._unread(path, "anchors and aliases are not supported: write the value out")
        self._seen.add(id(node))
        self._nodes += 1
        if self._aliases and self._nodes > MAX_NODES:
            if self._nodes == MAX_NODES + 1:
                self._unread(
                    path, f"expected at most {MAX_NODES:,} values with all aliases written out, found more"
                )
            return None
        if len(path) > MAX_DEPTH:
            return self._unread(path, f"expected at most {MAX_DEPTH} levels of nesting, found more")
        if node.tag not in _PLAIN_TAGS and node.tag != "!":
            return self._unread(path, f"tags are not supported, found {node.tag!r}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(_line(key_node), path, "expected a text as key, found a list or a mapping")
                continue
            key = str(key_node.value)
            if key in out:
                self._fault(_line(key_node), (*path, key), f"duplicate key, first given in line {first[key]}")
                continue
            first[key] = _line(key_node)
            self._document.lines[(*path, key)] = _line(key_node)
            out[key] = self.build(value_node, (*path, key))
        return out

    def _unread(self, path: Path, text: str) -> None:
        # Not the node's line: for an alias that is the line of its anchor.
        self._fault(self._document.lines[path], path, text)
        self._document.unread.add(path)

    def _fault(self, line: int, path: Path, text: str) -> None:
        where = f"{place(path)}: " if path else ""
        self._document.faults.append((line, where + text))


def place(path: Path) -> str:
    """A place in readable form: ``rules[2].match.kind``."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style is not None:  # quoted or a block: always text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
