"""Which tables a statement of SQL reads and changes, from its text; nothing else of the text is kept.

A tokenizer and the few rules of SQL for the positions of table names. Literals and comments are skipped as
wholes, placeholders are no names. It reads any dialect well enough and none completely: what views, functions,
procedures and triggers touch cannot be seen in a statement, and of a procedure that is called only that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mlaudit.capture.data.sql_tokens import (
    BEFORE_NAME,
    CHANGING,
    CLAUSES,
    NO_ALIAS,
    NO_TABLE,
    NO_VERB_AFTER,
    QUERY,
    VERBS,
    tokens,
)

MAX_TABLES: Final = 20
_LONGEST_NAME: Final = 256
_MOST_CTES: Final = 200
_MOST_KNOWN: Final = 2048


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement does; tables as ``schema.table`` or ``table``, without quotes, each once."""

    operation: str = ""
    read: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


NOTHING: Final = Statement()
_known: dict[tuple[int, int, bool | None], Statement] = {}
_NAME: Final = re.compile(r"[^\W\d][\w$]*(?:\.[^\W\d][\w$]*)*")


def escapes(system: str) -> bool | None:
    """Whether a backslash escapes in this database's literals; None where that is not known."""
    if system in ("mysql", "mariadb", "bigquery", "snowflake", "clickhouse", "databricks"):
        return True
    return False if system in ("postgresql", "sqlite", "oracle.db", "microsoft.sql_server") else None


def changes(operation: str) -> bool:
    """Whether a statement that begins with this word changes its table."""
    return operation in CHANGING


def is_name(text: str) -> bool:
    """Whether it is a table's name rather than a statement."""
    return len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) is not None


def parse(text: str, *, backslash: bool | None = None) -> Statement:
    """The tables of a statement, or of several; of a very long one, of its first ``MAX_TOKENS`` words and signs.

    Args:
        text: the statement.
        backslash: whether a backslash escapes in literals. Where that is not known and matters, a table counts only
            if both readings see it: a literal must never be taken for a name.
    """
    # Statements repeat. Cached by their hash: the text, which may contain literals, is not kept.
    key = (hash(text), len(text), backslash)
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = _parse(text, backslash)
    return found


def _parse(text: str, backslash: bool | None) -> Statement:
    if backslash is None and "\\'" in text:
        one, two = (_Reader(text, backslash=way).statement() for way in (False, True))
        return Statement(
            one.operation if one.operation == two.operation else "",
            tuple(name for name in one.read if name in two.read),
            tuple(name for name in one.changed if name in two.changed),
        )
    return _Reader(text, backslash=bool(backslash)).statement()


@dataclass(slots=True)
class _Level:
    """What is known inside of one pair of parentheses.

    ``listing``: a comma precedes one more table, ``into`` which; ``deletes`` that FROM names what is deleted.
    """

    verb: str = ""
    listing: bool = False
    into: dict[str, None] = field(default_factory=dict)
    deletes: bool = False


class _Reader:
    """Reads one text; see ``parse``."""

    def __init__(self, text: str, *, backslash: bool) -> None:
        self._tokens = tokens(text, backslash=backslash)
        self._with: dict[int, int] = {}
        self._closing = self._matching()
        self._ctes: list[tuple[str, int, int]] = []
        self._aliases: dict[str, str] = {}
        self._read: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        # Parentheses around tables: FROM (a JOIN b ON …).
        self._around: dict[int, dict[str, None]] = {}

    def statement(self) -> Statement:
        """The parsed statement."""
        operation = ""
        levels = [_Level()]
        index = 0
        while index < len(self._tokens):
            level = levels[-1]
            sign, word = self._other(index), self._word(index)
            after = index + 1
            if sign == "(":
                levels.append(_Level())
                around = self._around.get(index)
                if around is not None:
                    levels[-1] = _Level(level.verb, listing=True, into=around)
                    after = self._table(after, around)
            elif sign == ")" and len(levels) > 1:
                levels.pop()
            elif sign == ";":
                levels = [_Level()]
            elif sign == "," and level.listing:
                after = self._table(after, level.into)
            elif word == "EXPLAIN" and not level.verb and self._word(after) != "ANALYZE":
                return NOTHING
            elif word == "WITH":
                self._common(after)
            elif word:
                verb = self._verb(word, index, level)
                if verb:
                    level.verb, level.listing, level.deletes = verb, False, verb == "DELETE"
                    if not operation or (verb in CHANGING and operation not in CHANGING):
                        operation = verb
                    after = self._after_verb(verb, after, level)
                else:
                    after = self._after_word(word, index, level)
            index = after
        changed = list(dict.fromkeys(self._aliases.get(name, name) for name in self._changed))
        read = [name for name in self._read if name not in changed]
        return Statement(operation, tuple(read[:MAX_TABLES]), tuple(changed[:MAX_TABLES]))

    def _verb(self, word: str, index: int, level: _Level) -> str:
        if word not in VERBS or self._word(index - 1) in NO_VERB_AFTER:
            return ""
        if level.verb and word not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            return ""
        called = self._other(index + 1) == "(" and word not in ("SELECT", "VALUES", "COPY")
        return "" if called else word

    def _after_verb(self, verb: str, index: int, level: _Level) -> int:
        """Takes the tables that follow the verb itself; the index after them."""
        if self._word(index) == "TOP" and verb in ("INSERT", "UPDATE", "DELETE", "MERGE"):
            index = self._closing.get(index + 1, index) + 1
        if verb in ("UPDATE", "TRUNCATE"):
            return self._list(index, level, self._changed)
        if verb == "DELETE":
            return self._deleted(index, level)
        if verb in ("INSERT", "MERGE", "REPLACE") and self._word(index) != "OR":
            return self._table(index, self._changed, columns=True)
        if verb == "COPY" and self._other(index) != "(":
            end = self._table(index, {}, columns=True)
            while self._other(end) == "(":
                end = self._closing.get(end, end) + 1
            return self._table(index, self._read if self._word(end) == "TO" else self._changed, columns=True)
        return index

    def _after_word(self, word: str, index: int, level: _Level) -> int:
        """Takes the tables that the word announces; the index after them."""
        after = index + 1
        if word == "FROM" and level.verb in ("SELECT", "DELETE", "UPDATE"):
            if self._word(index - 1) == "DISTINCT" and self._word(index - 2) in ("IS", "NOT"):
                return after
            deletes, level.deletes = level.deletes, False
            return self._list(after, level, self._changed if deletes else self._read)
        if word in ("JOIN", "STRAIGHT_JOIN"):
            return self._list(after, level, self._read)
        if word == "USING" and level.verb in ("DELETE", "MERGE"):
            return self._list(after, level, self._read)
        if word == "INTO" and self._word(after) not in NO_TABLE:
            level.listing = False
            return self._table(after, self._changed, columns=True)
        if word == "TABLE" and level.verb == "DROP":
            return self._list(after, level, self._changed)
        if word == "TABLE" and level.verb in ("CREATE", "ALTER"):
            return self._table(after, self._changed, columns=True)
        if word in CLAUSES:
            level.listing = False
        return after

    def _list(self, index: int, level: _Level, into: dict[str, None]) -> int:
        level.listing, level.into = True, into
        return self._table(index, into)

    def _deleted(self, index: int, level: _Level) -> int:
        """MySQL's and SQL Server's ``DELETE a, b FROM …``: the names before FROM."""
        while self._word(index) in BEFORE_NAME:
            index += 1
        while self._word(index) != "FROM":
            name, end = self._name(index)
            if not name:
                break
            level.deletes = False
            self._changed.setdefault(name)
            index = end + 1 if self._other(end) == "," else end
            if index == end:
                break
        return index

    def _table(self, index: int, into: dict[str, None], *, columns: bool = False) -> int:
        """Takes one table's name and its alias at ``index``; the index after them.

        ``columns`` says that a parenthesis after the name is a list of columns; else it makes the name a function.
        """
        while self._word(index) in BEFORE_NAME and self._other(index + 1) not in (".", ","):
            index += 1
        if self._other(index) == "(" and self._word(index + 1) not in QUERY:
            self._around[index] = into
            return index
        name, end = self._name(index)
        if not name or (end == index + 1 and self._word(index) in NO_ALIAS):
            return index
        if self._other(end) == "(" and not columns:
            return end
        if self._is_common(name, index):
            return end
        into.setdefault(name)
        alias = end + 1 if self._word(end) == "AS" else end
        short, after = self._name(alias)
        if short and after == alias + 1 and self._word(alias) not in NO_ALIAS | QUERY:
            self._aliases[short] = name
            return after
        return end

    def _name(self, index: int) -> tuple[str, int]:
        """The name at ``index`` and the index after it; "" where none is."""
        parts: list[str] = []
        while index < len(self._tokens):
            kind, value = self._tokens[index]
            if kind == "word":
                parts.append(value)
            elif kind == "quoted":
                parts.append(value[1:-1].replace(value[-1] * 2, value[-1]))
            else:
                break
            index += 1
            if self._other(index) != ".":
                break
            index += 1
        name = ".".join(parts)
        return (name if len(name) <= _LONGEST_NAME else ""), index

    def _common(self, index: int) -> None:
        """The names of a WITH clause: each is one from the end of its definition on (a recursive one everywhere)."""
        until = self._end_of(index - 1)
        recursive = self._word(index) == "RECURSIVE"
        begin = index = index + recursive
        while len(self._ctes) < _MOST_CTES:
            name, index = self._name(index)
            if not name:
                return
            if self._other(index) == "(":
                index = self._closing.get(index, len(self._tokens)) + 1
            if self._word(index) != "AS":
                return
            index += 1
            while self._word(index) in ("NOT", "MATERIALIZED"):
                index += 1
            end = self._closing.get(index, len(self._tokens))
            self._ctes.append((name.casefold(), begin if recursive else end, until))
            index = end + 1
            if self._other(index) != ",":
                return
            index += 1

    def _is_common(self, name: str, index: int) -> bool:
        folded = name.casefold()
        return any(folded == known and begin <= index < end for known, begin, end in self._ctes)

    def _matching(self) -> dict[int, int]:
        """Where each parenthesis is closed; fills in, for each WITH, the one around it."""
        closing: dict[int, int] = {}
        opened: list[int] = []
        for index, (kind, value) in enumerate(self._tokens):
            if kind == "other" and value == "(":
                opened.append(index)
            elif kind == "other" and value == ")" and opened:
                closing[opened.pop()] = index
            elif kind == "word" and value.upper() == "WITH" and opened:
                self._with[index] = opened[-1]
        return closing

    def _end_of(self, index: int) -> int:
        """Where the parentheses around a WITH end."""
        return self._closing.get(self._with.get(index, -1), len(self._tokens))

    def _word(self, index: int) -> str:
        if 0 <= index < len(self._tokens) and self._tokens[index][0] == "word":
            return self._tokens[index][1].upper()
        return ""

    def _other(self, index: int) -> str:
        if 0 <= index < len(self._tokens) and self._tokens[index][0] == "other":
            return self._tokens[index][1]
        return ""
