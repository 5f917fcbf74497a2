"""Loads the compiled rules, from the wheel or from the checkout."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from mlaudit.detect.compiled_rule import Plan
from mlaudit.errors import InstallError, SourceError
from mlaudit.install.packaged import shipped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def folder() -> Path:
    """Where the compiled rules are.

    Raises:
        SourceError: neither in the installed package nor in a checkout.
    """
    try:
        return shipped("detections/compiled")
    except InstallError as error:
        raise SourceError(f"expected compiled detection rules: {error}") from None


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
