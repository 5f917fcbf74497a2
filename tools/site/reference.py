"""Pages generated from the code: the exports of ``mlaudit`` with docstrings, and every command with its options."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tools.site.navigation import GENERATED, document
from tools.site.staging import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import ModuleType

_COMMAND: Final = re.compile(r"^(#+) `(mlaudit[^`]*)`\n+([^\n]*)", re.MULTILINE)
_LISTED: Final = re.compile(r"^\* `([\w-]+)`: .*$", re.MULTILINE)


def stage_reference(target: Path) -> None:
    """Writes the generated pages below ``target``."""
    write(target, document("api-reference"), api())
    write(target, document("command-line"), commands())


def api() -> str:
    """The API reference: all names in ``mlaudit.__all__``, and the public names of ``mlaudit.testing``.

    Sphinx fills in signatures and docstrings.
    """
    mlaudit, testing = import_module("mlaudit"), import_module("mlaudit.testing")
    exported = [name for name in mlaudit.__all__ if not name.startswith("__")]
    return "\n".join(
        [
            f"# {GENERATED['api-reference']}",
            "",
            "What is on this page is public; every other name in the package may change without notice.",
            "",
            "## mlaudit",
            "",
            *_rst(_module(mlaudit)),
            *_rst(_entries(mlaudit, sorted(exported, key=lambda name: (_order(mlaudit, name), name)))),
            "## mlaudit.testing",
            "",
            *_rst(_module(testing)),
            *_rst(_entries(testing, _offered(testing))),
        ]
    )


def commands() -> str:
    """Every command of the command line, from the Typer application itself."""
    run = [sys.executable, "-m", "typer", "mlaudit.cli", "utils", "docs", "--name", "mlaudit"]
    text = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    found = {match[2]: match[3] for match in _COMMAND.finditer(text)}
    parts = re.split(r"(?m)^(?=#+ `mlaudit)", text)
    return f"# {GENERATED['command-line']}\n\n" + "".join(
        _section(part, found) for part in parts if part.strip()
    )


def _section(text: str, found: dict[str, str]) -> str:
    """One command, a heading level deeper; its sub-commands are linked, with their whole first sentence."""
    match = _COMMAND.match(text)
    if match is None:
        raise ValueError(f"not the description of a command: {text[:80]!r}")
    name = match[2]

    def listed(line: re.Match[str]) -> str:
        full = f"{name} {line[1]}"
        return f"* [`{full}`](#{full.replace(' ', '-')}): {found[full]}"

    head, mark, below = text.partition("**Commands**:")
    return f"#{head}{mark}{_LISTED.sub(listed, below)}"


def _module(module: ModuleType) -> list[str]:
    return [f".. automodule:: {module.__name__}", "   :no-members:", ""]


def _entries(module: ModuleType, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        value = getattr(module, name)
        full = f"{module.__name__}.{name}"
        if (fixture := _fixture(value)) is not None:
            yield from (
                f".. py:function:: {name}",
                "   :module: " + module.__name__,
                "",
                "   A pytest fixture.",
                "",
            )
            yield from textwrap.indent(inspect.cleandoc(fixture.__doc__ or ""), "   ").splitlines()
        elif inspect.isclass(value):
            directive = "autoexception" if issubclass(value, BaseException) else "autoclass"
            yield from (f".. {directive}:: {full}", "   :members:")
        elif callable(value):
            yield f".. autofunction:: {full}"
        else:
            yield f".. autodata:: {full}"
        yield ""


def _order(module: ModuleType, name: str) -> int:
    """Functions first, then classes that are used like functions, other classes, exceptions, values."""
    value = getattr(module, name)
    if inspect.isclass(value):
        return 3 if issubclass(value, BaseException) else 1 if name.islower() else 2
    return 0 if callable(value) else 4


def _offered(module: ModuleType) -> list[str]:
    """The public names that a module defines itself, in the order of its source."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(_fixture(value) or value, "__module__", "") == module.__name__
    ]


def _fixture(value: Any) -> Any:
    """The function behind a pytest fixture; None for anything else."""
    wrapped = getattr(value, "_get_wrapped_function", None)
    return wrapped() if callable(wrapped) else None


def _rst(lines: Iterable[str]) -> list[str]:
    return ["```{eval-rst}", *lines, "```", ""]
