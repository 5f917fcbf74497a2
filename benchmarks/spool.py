"""``python -m benchmarks.spool``: the spool's segments against LMDB and SQLite, as queues with the same guarantees.

Two guarantees are compared. *Handed over*: when a record's call returns, the operating system has it, so that a kill of
the process loses nothing. *Durable*: a group of records is covered by one fsync. Rounds of the three stores alternate;
the result is median, minimum and maximum. Each stores frames of the same size under ascending keys.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import lmdb
from rich.console import Console
from rich.table import Table

from benchmarks.figures import spread
from mlaudit.deliver.spool.frames import frame
from mlaudit.deliver.spool.segment_file import SegmentFile

RECORD_BYTES = 1024
GROUPS = (16, 256)
_MAP_BYTES = 1 << 30


class Store(Protocol):
    """A store that keeps numbered records in order."""

    def put(self, numbers: range, payload: bytes) -> None:
        """Stores records; returns when the store's guarantee holds for all of them."""
        ...


class Segments:
    """The spool's way: one write per record, one fdatasync per group."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._segment = SegmentFile(folder / f"{1:020d}.seg")
        self._durable = durable

    def put(self, numbers: range, payload: bytes) -> None:
        """See ``Store``."""
        digest = bytes(32)
        for number in numbers:
            self._segment.append(frame(number, digest, payload))
        if self._durable:
            self._segment.sync(self._segment.size)

    def close(self) -> None:
        """Closes the file."""
        self._segment.close()


class Lmdb:
    """One transaction per call; without ``durable`` commits are not synced, and a power failure may damage it all."""

    _MAPPED = False

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._environment = lmdb.open(str(folder), map_size=_MAP_BYTES, sync=durable, writemap=self._MAPPED)

    def put(self, numbers: range, payload: bytes) -> None:
        """See ``Store``."""
        with self._environment.begin(write=True) as transaction:
            for number in numbers:
                transaction.put(number.to_bytes(8, "big"), payload, append=True)

    def close(self) -> None:
        """Closes the file."""
        self._environment.close()


class MappedLmdb(Lmdb):
    """The same through a writable map: faster, and a full disk or an I/O error is a SIGBUS in the process."""

    _MAPPED = True


class Sqlite:
    """One transaction per call in WAL mode; ``synchronous`` is FULL for durable, OFF otherwise."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._database = sqlite3.connect(folder / "queue.db", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        self._database.execute("CREATE TABLE queue (sequence INTEGER PRIMARY KEY, payload BLOB)")

    def put(self, numbers: range, payload: bytes) -> None:
        """See ``Store``."""
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(
            "INSERT INTO queue VALUES (?, ?)", [(number, payload) for number in numbers]
        )
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


WAYS: dict[str, Callable[..., Segments | Lmdb | Sqlite]] = {
    "segments (mlaudit)": Segments,
    "LMDB": Lmdb,
    "LMDB, writable map": MappedLmdb,
    "SQLite WAL": Sqlite,
}


def measure(rounds: int, seconds: float, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Figures by measurement and store: microseconds of CPU per record handed over, durable records per second."""
    found: dict[str, dict[str, list[float]]] = {}
    payload = sha256(b"payload").digest() * (RECORD_BYTES // 32)
    for number in range(rounds):
        order = list(WAYS.items()) if number % 2 == 0 else list(WAYS.items())[::-1]
        for name, way in order:
            with _opened(way, folder, durable=False) as store:
                cpu, _, records = _repeat(store, 1, payload, seconds)
                found.setdefault("one record handed over, us CPU", {}).setdefault(name, []).append(
                    cpu / records * 1e6
                )
            for group in GROUPS:
                with _opened(way, folder, durable=True) as store:
                    _, wall, records = _repeat(store, group, payload, seconds)
                    found.setdefault(f"durable groups of {group}, records/s", {}).setdefault(name, []).append(
                        records / wall
                    )
    return found


@contextmanager
def _opened(way: Callable[..., Segments | Lmdb | Sqlite], folder: Path, *, durable: bool) -> Iterator[Store]:
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        closing(way(Path(place), durable=durable)) as store,
    ):
        yield store


def _repeat(store: Store, group: int, payload: bytes, seconds: float) -> tuple[float, float, int]:
    """CPU seconds, wall seconds and records of putting groups for about ``seconds``."""
    begun, cpu, number = time.perf_counter(), time.process_time(), 1
    while time.perf_counter() - begun < seconds:
        store.put(range(number, number + group), payload)
        number += group
    return time.process_time() - cpu, time.perf_counter() - begun, number - 1


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--seconds", type=float, default=0.25, help="of each of the twelve measurements of a round"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("build"), help="on the disk that is to be measured"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = measure(options.rounds, options.seconds, options.folder)
    table = Table(title=f"records of {RECORD_BYTES} bytes, median, least, greatest", title_justify="left")
    for heading in ("", *WAYS):
        table.add_column(heading, no_wrap=True)
    for measurement, ways in found.items():
        cells = []
        for name in WAYS:
            figures = spread(ways[name])
            digits = 1 if figures["median"] < 1000 else 0
            cells.append(" ".join(f"{figures[figure]:,.{digits}f}" for figure in ("median", "min", "max")))
        table.add_row(measurement, *cells)
    console = Console(highlight=False, width=160)
    console.print(table)
    versions = f"lmdb {lmdb.__version__} (LMDB {'.'.join(map(str, lmdb.version()))}), SQLite {sqlite3.sqlite_version}"
    console.print(
        f"{versions}; load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores"
    )


if __name__ == "__main__":
    main()
