"""Loads the compiled rules, from the wheel or from the checkout."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlaudit.detect.compiled_rule import Plan
from mlaudit.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Where the compiled rules are.

    Raises:
        SourceError: neither in the installed package nor in a checkout.
    """
    places = (
        _PACKAGE / "_assets" / "detections" / "compiled",
        _PACKAGE.parents[1] / "detections" / "compiled",
    )
    for place in places:
        if place.is_dir():
            return place
    raise SourceError(f"expected compiled detection rules in {places[0]}, found none; reinstall mlaudit-otel")


@cache
def load_plans() -> tuple[Plan, ...]:
    """Every compiled rule, by name."""
    files = sorted(folder().glob("*.json"))
    return tuple(Plan.from_json(json.loads(file.read_text(encoding="utf-8"))) for file in files)


def select(plans: Iterable[Plan], wanted: Iterable[str]) -> tuple[Plan, ...]:
    """The plans with these names or ids.

    Raises:
        SourceError: a name or id that no rule has.
    """
    known = {key: plan for plan in plans for key in (plan.name, plan.id)}
    wanted = tuple(wanted)
    if strangers := [one for one in wanted if one not in known]:
        names = ", ".join(sorted({plan.name for plan in known.values()}))
        raise SourceError(f"no such rule: {', '.join(strangers)}; the rules are: {names}")
    return tuple(dict.fromkeys(known[one] for one in wanted))
