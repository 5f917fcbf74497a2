"""Generates ``docs/settings.md`` from the table of settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlaudit.settings import VARIABLES
from tools.generate import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OWNED: Final = ("docs/settings.md",)

_INTRODUCTION: Final = f"""\
<!-- {MARK} -->
# Settings

Every setting of an audited process is an environment variable. They are checked together when auditing starts: every
wrong one and every unknown `MLAUDIT_*` name is listed at once on stderr, and then the process runs unaudited.

| variable | default | meaning |
| --- | --- | --- |
"""


def outputs(root: Path) -> Mapping[str, str]:
    """The table, a line for each variable."""
    lines = [f"| `MLAUDIT_{one.name}` | {one.default} | {one.meaning} |\n" for one in VARIABLES]
    return {OWNED[0]: _INTRODUCTION + "".join(lines)}
