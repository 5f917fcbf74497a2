"""The map that forgets."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlaudit.safety.bounded_map import BoundedMap


def test_the_oldest_is_forgotten_and_setting_makes_new() -> None:
    """Reading a value does not keep it; setting it does."""
    remembered: BoundedMap[str, int] = BoundedMap(2)
    remembered["a"] = 1
    remembered["b"] = 2
    remembered["a"] = 3
    assert remembered["b"] == 2
    remembered["c"] = 4
    assert dict(remembered) == {"a": 3, "c": 4}
    assert remembered.pop("b", None) is None
    with pytest.raises(KeyError):
        remembered.pop("b")


def test_no_way_of_setting_passes_the_bound() -> None:
    """Neither an update nor a default."""
    remembered: BoundedMap[int, int] = BoundedMap(3)
    remembered.update(dict.fromkeys(range(100), 0))
    for number in range(200, 300):
        remembered.setdefault(number, 0)
    assert list(remembered) == [297, 298, 299]


def test_threads_at_once_raise_nothing_and_stay_bounded() -> None:
    """A map without a lock is whole after a race, and one more value brings it back to its limit."""
    remembered: BoundedMap[int, int] = BoundedMap(16)
    before = sys.getswitchinterval()

    def work(start: int) -> None:
        for number in range(2_000):
            remembered[(start * 7 + number) % 41] = number
            remembered.pop(number % 41, None)
            list(remembered)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work, start) for start in range(4)]:
                done.result()
    finally:
        sys.setswitchinterval(before)
    remembered[1000] = 0
    assert len(remembered) <= 16
