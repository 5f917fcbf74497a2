"""What ``mlaudit generate`` does and prints."""

from __future__ import annotations

from typing import Final

from rich.console import Console

from mlaudit.assets.generate import differences, generators, regenerate, repository

_DONE: Final = {"missing": "wrote", "differs": "rewrote", "stale": "deleted"}


def generate(*, check: bool) -> int:
    """Regenerate, or check; returns the exit code: 1 when checking found a difference.

    Raises:
        CatalogError: the catalog contradicts itself, or this is not a checkout.
    """
    console = Console(soft_wrap=True, highlight=False)
    root, modules = repository(), generators()
    found = differences(root, modules) if check else regenerate(root, modules)
    for one in found:
        console.print(f"{one.path}: {one.state}" if check else f"{_DONE[one.state]} {one.path}")
    if not found:
        console.print("every generated file is as its generator writes it")
    elif check:
        console.print(f"{len(found)} generated files differ; run: mlaudit generate")
    return 1 if check and found else 0
