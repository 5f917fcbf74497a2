"""Generates ``docs/libraries.md``: the libraries that are audited, and the versions that are tested."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mlaudit.capture.integrations import INTEGRATIONS
from tools.generate import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OWNED: Final = ("docs/libraries.md",)
LOCKS: Final = ("constraints/dev.txt", "constraints/deep.txt")
_PIN: Final = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^ \\;]+)", re.MULTILINE)

_INTRODUCTION: Final = f"""<!-- {MARK} -->
# Libraries

What is audited as soon as the library is imported, without a line of code. The hooks of a library are loaded after
the library itself, cost nothing where it is absent, and are left out with `MLAUDIT_DISABLED_LIBRARIES=<name>,<name>`.

*From* is the oldest version that `make test-versions` runs the integration's tests with, *to* the newest one that
`make test` or `make test-deep` does. Other versions get the same hooks; a hook that cannot be set is reported in a
record (`audit.pipeline.failure`) and never stops the program.

| Name | Library | From | To | Recorded |
|---|---|---|---|---|
"""


def outputs(root: Path) -> Mapping[str, str]:
    """The document."""
    newest = pinned(root)
    lines = [
        f"| `{one.name}` | {one.distribution or 'standard library'} | {one.oldest or '-'} "
        f"| {newest.get(one.distribution, '-')} | {one.captures} |\n"
        for one in sorted(INTEGRATIONS, key=lambda one: one.name)
    ]
    return {OWNED[0]: _INTRODUCTION + "".join(lines)}


def pinned(root: Path) -> dict[str, str]:
    """Distribution → the version that the tests run with; of several, the first, which is for the oldest Python."""
    found: dict[str, str] = {}
    for lock in LOCKS:
        if (root / lock).is_file():
            for pin in _PIN.finditer((root / lock).read_text(encoding="utf-8")):
                found.setdefault(pin["name"], pin["version"])
    return found
