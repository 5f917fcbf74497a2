"""The words of SQL: a tokenizer that takes literals and comments as wholes, and what its words announce."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

MAX_TOKENS: Final = 20_000
_FLAGS: Final = re.VERBOSE | re.DOTALL
# Words, and what is skipped as a whole: {comment}, {text} and {double} are the dialect's.
_TOKENS: Final = r"""
      (?P<skip> \s+ | --[^\n]* | {comment} | /\*.*?(?:\*/|\Z) )
    | (?P<literal> [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | \$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z) | {text} )
    | (?P<quoted> {double} | `(?:[^`]|``)*(?:`|\Z) | \[[\w\ $.-]+\] )
    | (?P<placeholder> [:@%$]+\(?\w+\)?s? | \? )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<other> . )
"""
_STANDARD: Final = re.compile(
    _TOKENS.format(comment="(?!)", text=r"[nNbBxX]?'(?:[^']|'')*(?:'|\Z)", double=r'"(?:[^"]|"")*(?:"|\Z)'),
    _FLAGS,
)
# MySQL runs what stands in /*! … */, and has comments that begin with #.
_BACKSLASH: Final = re.compile(
    _TOKENS.format(
        comment=r"\#[^\n]* | /\*!\d*",
        text=r"[nNbBxX]?'(?:[^'\\]|\\.|'')*(?:'|\Z)",
        double=r'"(?:[^"\\]|\\.|"")*(?:"|\Z)',
    ),
    _FLAGS,
)


def tokens(text: str, *, backslash: bool) -> list[tuple[str, str]]:
    """Kind and text of each token: ``word``, ``quoted`` (a name), ``other`` (one character); of the rest no text.

    The first ones, at most ``MAX_TOKENS``: the millionth value of an INSERT says nothing of its table.
    """
    found: list[tuple[str, str]] = []
    for match in islice((_BACKSLASH if backslash else _STANDARD).finditer(text), MAX_TOKENS):
        kind = match.lastgroup or ""
        if kind != "skip":
            found.append((kind, match.group() if kind in ("word", "quoted", "other") else ""))
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS: Final = _words(
    "SELECT INSERT UPDATE DELETE MERGE REPLACE TRUNCATE CREATE DROP ALTER COPY LOAD CALL EXECUTE EXEC VALUES"
)
CHANGING: Final = VERBS - {"SELECT", "CALL", "EXECUTE", "EXEC", "VALUES"}
# After these a list of tables is over.
CLAUSES: Final = _words(
    "WHERE GROUP ORDER HAVING LIMIT UNION EXCEPT INTERSECT MINUS SET VALUES RETURNING WINDOW FETCH OFFSET FOR SELECT "
    "QUALIFY CONNECT START WHEN OUTPUT OPTION"
)
# What may stand between the word that announces a table and its name.
BEFORE_NAME: Final = _words(
    "ONLY LATERAL TABLE IF NOT EXISTS LOW_PRIORITY HIGH_PRIORITY IGNORE QUICK DELAYED OVERWRITE TEMPORARY TEMP "
    "UNLOGGED EXTERNAL"
)
NO_ALIAS: Final = CLAUSES | _words(
    "ON USING JOIN INNER LEFT RIGHT FULL CROSS NATURAL OUTER STRAIGHT_JOIN FROM INTO AS TABLESAMPLE WITH "
    "PARTITION USE FORCE IGNORE ASOF PIVOT UNPIVOT DEFAULT"
)
# "FOR UPDATE", "ON DELETE CASCADE", "DO UPDATE SET" and their like are no statements of their own.
NO_VERB_AFTER: Final = _words("FOR ON DO THEN KEY NO OR OF BEFORE AFTER INSTEAD")
NO_TABLE: Final = _words("OUTFILE DUMPFILE")
QUERY: Final = _words("SELECT WITH VALUES")
