"""External sort of records by their place: what does not fit into memory goes to a file."""

from __future__ import annotations

import heapq
import marshal
import tempfile
from dataclasses import fields
from itertools import islice
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final

from mlaudit.verify.proof.stored import Claims, Difference, StoredRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK: Final = 50_000
_BLOCK: Final = 200

_Item = tuple[str, int, int, StoredRecord]
"""Stream id, sequence, number of arrival (so that ties keep their order and records are never compared)."""

_key: Final = itemgetter(0, 1, 2)
_NAMES: Final = tuple(
    field.name for field in fields(StoredRecord) if field.name not in {"claims", "differences", "misplaced"}
)
_values: Final = attrgetter(*_NAMES)


class RecordSorter:
    """Takes records in any order and iterates over them by stream and sequence, any number of times.

    Holds at most one chunk in memory, and one block for each sorted run during iteration. A source that is
    ordered already makes a single run. The file is anonymous and is removed with the sorter.
    """

    def __init__(self, chunk: int = _CHUNK) -> None:
        self._chunk = chunk
        self._items: list[_Item] = []
        self._arrived = 0
        self._file: Any = None
        self._runs: list[list[tuple[int, int]]] = []
        self._run_end: tuple[str, int, int] | None = None

    def __len__(self) -> int:
        return self._arrived

    def add(self, record: StoredRecord) -> None:
        """Adds a record."""
        self._arrived += 1
        self._items.append((record.stream_id, record.sequence, self._arrived, record))
        if len(self._items) >= self._chunk:
            self._spill()

    def extend(self, records: Iterable[StoredRecord]) -> None:
        """Adds several records."""
        for record in records:
            self.add(record)

    def __iter__(self) -> Iterator[StoredRecord]:
        self._items.sort(key=_key)
        if not self._runs:
            return (item[3] for item in self._items)
        runs = [self._read(run) for run in self._runs]
        return (item[3] for item in heapq.merge(*runs, self._items, key=_key))

    def _spill(self) -> None:
        self._items.sort(key=_key)
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="mlaudit-verify-")  # noqa: SIM115 - lives as long as the sorter
        if self._run_end is None or self._items[0][:3] < self._run_end:
            self._runs.append([])
        self._run_end = self._items[-1][:3]
        items = iter(self._items)
        self._file.seek(0, 2)
        while block := list(islice(items, _BLOCK)):
            data = marshal.dumps([(*item[:3], *_packed(item[3])) for item in block])
            self._runs[-1].append((self._file.tell(), len(data)))
            self._file.write(data)
        self._items = []

    def _read(self, run: list[tuple[int, int]]) -> Iterator[_Item]:
        for offset, size in run:
            self._file.seek(offset)
            # Only this process can write it.
            for stream_id, sequence, arrived, *rest in marshal.loads(self._file.read(size)):  # noqa: S302
                yield stream_id, sequence, arrived, _unpacked(rest)


def _packed(record: StoredRecord) -> tuple[Any, ...]:
    """A record as plain tuples; those cost a third of what pickled objects do."""
    values = _values(record)
    misplaced = record.misplaced and tuple(record.misplaced)
    return (
        tuple(record.claims),
        [tuple(difference) for difference in record.differences],
        misplaced,
        *values,
    )


def _unpacked(values: list[Any]) -> StoredRecord:
    claims, differences, misplaced, *rest = values
    named = dict(zip(_NAMES, rest, strict=True))
    return StoredRecord(
        claims=Claims(*claims),
        differences=[Difference(*pair) for pair in differences],
        misplaced=misplaced and Difference(*misplaced),
        **named,
    )
