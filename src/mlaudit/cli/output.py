"""How commands print: text for people, one JSON document for programs, and errors of those that could not check.

A table never cuts what identifies a row: its ``no_wrap`` columns are whole at any width, the others fold. In a pipe or
a file a table is as wide as its content.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer
from rich.console import Console as RichConsole

from mlaudit.errors import MlauditError
from mlaudit.safety.printable import safe_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

FINE: Final = 0
FINDINGS: Final = 1
COULD_NOT_CHECK: Final = 2
INTERNAL_ERROR: Final = 70
INTERRUPTED: Final = 130
#: As a program that SIGPIPE ends. Not 1, which means findings.
BROKEN_PIPE: Final = 141

_SHOWN_VALUE: Final = 120
#: A column that folds keeps at least this width.
_FOLDED: Final = 12
_UNBOUNDED: Final = 100_000


class Console(RichConsole):
    """Where a command prints."""

    def on_broken_pipe(self) -> NoReturn:
        """Ends without a word when the reader has gone."""
        end_for_broken_pipe()


def console() -> Console:
    """Standard output; no line is wrapped, so that no id is broken."""
    return Console(highlight=False, soft_wrap=True)


def progress() -> Console:
    """Standard error: progress and remarks."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_table(target: RichConsole, table: Table) -> None:
    """Prints a table whose ``no_wrap`` columns are never cut; where there is a width to keep, the others fold."""
    natural = target.measure(table, options=target.options.update(width=_UNBOUNDED)).maximum
    spare = 0
    for column in table.columns:
        column.overflow = "fold"
        width = max(
            (target.measure(cell, options=target.options.update(width=_UNBOUNDED)).maximum)
            for cell in (column.header, *column.cells)
        )
        if column.no_wrap:
            column.min_width = width
        else:
            spare += max(0, width - _FOLDED)
    if not target.is_terminal:
        table.width = natural
    else:
        table.width = min(natural, max(target.width, natural - spare))
    target.print(table, soft_wrap=False, crop=False, no_wrap=False, overflow="fold")


def write(text: str) -> None:
    """Writes to standard output as it is."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        end_for_broken_pipe()


def write_json(value: Any) -> None:
    """Writes one JSON document of plain ASCII."""
    write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def write_json_line(value: Any) -> None:
    """Writes one JSON document on one line, for commands that go on printing."""
    write(json.dumps(value, ensure_ascii=True) + "\n")


@contextmanager
def could_not_check(
    command: str, *, as_json: bool, answer: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """An error that mlaudit raises on purpose ends the command with exit code 2, which is never a finding.

    Args:
        command: its name, e.g. ``verify``.
        as_json: also print the error as JSON.
        answer: further keys of that JSON.
    """
    try:
        yield
    except MlauditError as error:
        if as_json:
            write_json({"ok": False, **(answer or {}), "error": str(error)})
        progress().print(
            f"mlaudit {command}: could not check: {safe_lines(str(error))}", markup=False, highlight=False
        )
        raise typer.Exit(COULD_NOT_CHECK) from None


def end_for_broken_pipe() -> NoReturn:
    """Ends the program when nobody reads its output any more."""
    # Whatever is still buffered would fail again when the interpreter flushes it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(BROKEN_PIPE)


def cut(text: str) -> str:
    """The text, cut to what fits a line or two."""
    return text if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}…"
