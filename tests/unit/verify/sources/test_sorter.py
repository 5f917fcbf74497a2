from __future__ import annotations

import random

from tests.sealed import make_stream, records

from mlaudit.verify.sources.sorter import RecordSorter

RECORDS = records(make_stream(50))


def test_order_is_restored_through_the_file() -> None:
    """Chunks in the file are merged on each iteration."""
    shuffled = random.Random(1).sample(RECORDS, len(RECORDS))
    sorter = RecordSorter(chunk=7)
    sorter.extend(shuffled)

    assert list(sorter) == RECORDS
    assert list(sorter) == RECORDS
    assert len(sorter) == 50


def test_ordered_source_makes_one_run() -> None:
    """Iteration over an ordered source of any size holds one block."""
    sorter = RecordSorter(chunk=7)
    sorter.extend(RECORDS)

    assert len(sorter._runs) == 1
    assert list(sorter) == RECORDS


def test_records_can_be_added_after_giving_back() -> None:
    """Records can be added after an iteration, and get their place."""
    sorter = RecordSorter(chunk=7)
    sorter.extend(RECORDS[:20] + RECORDS[21:])
    assert len(list(sorter)) == 49

    sorter.add(RECORDS[20])

    assert list(sorter) == RECORDS


def test_equal_places_keep_their_order() -> None:
    """Two records of one place are returned in insertion order."""
    sorter = RecordSorter(chunk=2)
    sorter.extend([RECORDS[3], RECORDS[2], RECORDS[3], RECORDS[3]])

    assert [record.sequence for record in sorter] == [3, 4, 4, 4]
