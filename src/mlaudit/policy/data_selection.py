"""Which data accesses are recorded: tables by name, files and objects by path or URI, bulk exports by row count."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mlaudit.policy.globs import Matcher, covers, glob_fault, name_matcher, path_matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_KEPT: Final = 1024
_LONGEST_KEPT: Final = 1024
_PLACES: Final = ("/", "*", "?", "[", "<")
_NO_TABLE: Final = re.compile(r"""[\s'"`;]""")


@dataclass(frozen=True, slots=True)
class DataSelection:
    """The policy's ``data``, compiled; immutable, safe to use from any thread.

    Attributes:
        table: whether SQL on a table of this name is recorded. A pattern without a dot matches the table's name in
            any schema; case is ignored, as in most databases.
        path: whether reading or writing this absolute path or URI (without credentials) is recorded.
        bulk_rows: the number of rows from which an access is a bulk export; None for never.
        has_tables, has_paths: whether ``table`` and ``path`` can ever be true.
    """

    table: Callable[[str], bool]
    path: Callable[[str], bool]
    bulk_rows: int | None
    has_tables: bool
    has_paths: bool

    def is_bulk(self, rows: int | None) -> bool:
        """Whether this number of rows is a bulk export; an unknown row count is never one."""
        return self.bulk_rows is not None and rows is not None and rows >= self.bulk_rows


def make_selection(tables: tuple[str, ...], paths: tuple[str, ...], bulk_rows: int | None) -> DataSelection:
    """Compiles the patterns; ``!pattern`` is an exception."""
    listed = tuple(pattern.casefold() for pattern in tables)
    taken = _table_test(pattern for pattern in listed if not pattern.startswith("!"))
    excepted = _table_test(pattern[1:] for pattern in listed if pattern.startswith("!"))

    def table(name: str) -> bool:
        folded = name.casefold()
        return taken(folded) and not excepted(folded)

    return DataSelection(
        table=_remembered(table),
        path=_remembered(_chosen(paths, path_matcher)),
        bulk_rows=bulk_rows,
        has_tables=any(not pattern.startswith("!") for pattern in tables),
        has_paths=any(not pattern.startswith("!") for pattern in paths),
    )


def pattern_issues(patterns: tuple[str, ...], *, paths: bool) -> Iterator[tuple[str, bool]]:
    """The issues of the patterns of ``tables`` or ``paths``, each with whether it is only a warning."""
    sound = [pattern for pattern in patterns if glob_fault(pattern.removeprefix("!")) is None]
    if sound and all(pattern.startswith("!") for pattern in sound):
        yield "expected a pattern besides the exceptions; with none nothing is recorded", False
    for index, pattern in enumerate(sound):
        plain = pattern.removeprefix("!")
        if paths and not plain.startswith(_PLACES) and "://" not in plain:
            yield f"{pattern!r} matches nothing: begin with /, *, < or a scheme such as s3://", True
        if not paths and _NO_TABLE.search(plain):
            yield f"{pattern!r} matches no table: write its name without quotes", True
        # Exceptions apply to all patterns, whatever their order.
        for other in sound[:index] if not pattern.startswith("!") else ():
            if not other.startswith("!") and covers(other, plain, path=paths):
                yield f"{pattern!r} adds nothing: {other!r} matches all of it", True
                break


def _table_test(patterns: Iterable[str]) -> Callable[[str], bool]:
    listed = tuple(patterns)
    whole = name_matcher(tuple(pattern for pattern in listed if "." in pattern))
    bare = name_matcher(tuple(pattern for pattern in listed if "." not in pattern))
    return lambda name: bool(whole(name) or bare(name.rpartition(".")[2]))


def _chosen(
    patterns: tuple[str, ...], compiled: Callable[[tuple[str, ...]], Matcher]
) -> Callable[[str], bool]:
    taken = compiled(tuple(pattern for pattern in patterns if not pattern.startswith("!")))
    excepted = compiled(tuple(pattern[1:] for pattern in patterns if pattern.startswith("!")))
    return lambda name: bool(taken(name)) and not excepted(name)


def _remembered(test: Callable[[str], bool]) -> Callable[[str], bool]:
    kept = lru_cache(maxsize=_KEPT)(test)
    # Clients can choose a path: very long ones are not cached.
    return lambda name: (test if len(name) > _LONGEST_KEPT else kept)(name)
