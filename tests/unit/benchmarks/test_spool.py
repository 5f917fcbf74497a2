from __future__ import annotations

from pathlib import Path

from benchmarks.spool import WAYS, measure


def test_every_store_is_measured_in_every_way(tmp_path: Path) -> None:
    """One round in small gives a positive figure for each store and promise, and leaves nothing behind."""
    found = measure(1, 0.005, tmp_path)
    assert len(found) == 3
    for ways in found.values():
        assert list(ways) == list(WAYS)
        assert all(figure > 0 for figures in ways.values() for figure in figures)
    assert list(tmp_path.iterdir()) == []
