"""Statistics of repeated measurements: the median and the spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, minimum and maximum of some values."""
    listed = sorted(values)
    return {"median": median(listed), "min": listed[0], "max": listed[-1]}


def median_of(rounds: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float]:
    """The median of each named figure over the rounds."""
    return {name: median(found[name] for found in rounds) for name in names}
