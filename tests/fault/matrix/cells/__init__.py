"""The cells, a module for each group."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.fault.matrix.cell import Cell


def all_cells() -> list[Cell]:
    """The ``CELLS`` of every module beside this one."""
    found: list[Cell] = []
    for module in sorted(one.name for one in iter_modules(__path__)):
        found += import_module(f"{__name__}.{module}").CELLS
    return found
