"""pyarrow: files that it reads and writes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.fs
import pyarrow.json
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from mlaudit.capture.data.digest import SAMPLED, digest
from mlaudit.capture.libraries.pyarrow import PyarrowIntegration
from mlaudit.testing import AuditLog

READ, MODIFIED, EXPORTED = "audit.data.read", "audit.data.modified", "audit.data.exported"
Hooked = Callable[..., AbstractContextManager[AuditLog]]


@pytest.fixture
def table() -> Any:
    """Numbers and a text."""
    return pa.table({"age": [31, 42, 53], "name": ["Ada Lovelace", "Bob", "Cid"]})


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records under the built-in policy."""
    with hooked("pyarrow", "pandas") as log:
        yield log


def recorded(log: AuditLog) -> list[tuple[Any, ...]]:
    """Kind, operation, rows and name of each record."""
    return [
        (
            record["audit.kind"].rpartition(".")[2],
            record["ml.dataset.operation"],
            record.get("ml.dataset.rows"),
            record["ml.dataset.name"],
        )
        for record in log.records
        if record["audit.kind"].startswith("audit.data.")
    ]


def files(path: str) -> list[tuple[str, Callable[[Any], Any], str, Callable[[], Any]]]:
    """A writer and a reader of every format."""
    return [
        ("write_table", lambda table: pq.write_table(table, path), "read_table", lambda: pq.read_table(path)),
        (
            "write_table",
            lambda table: pq.write_table(table, path),
            "read_pandas",
            lambda: pq.read_pandas(path),
        ),
        (
            "write_feather",
            lambda table: pa.feather.write_feather(table, path),
            "read_table",
            lambda: pa.feather.read_table(path),
        ),
        (
            "write_feather",
            lambda table: pa.feather.write_feather(table, path),
            "read_feather",
            lambda: pa.feather.read_feather(path),
        ),
        (
            "write_table",
            lambda table: pa.orc.write_table(table, path),
            "read_table",
            lambda: pa.orc.read_table(path),
        ),
        ("write_csv", lambda table: pa.csv.write_csv(table, path), "read_csv", lambda: pa.csv.read_csv(path)),
        (
            "write_table",
            lambda table: pq.write_table(table, path),
            "ParquetFile.read",
            lambda: pq.ParquetFile(path).read(),
        ),
        (
            "write_table",
            lambda table: pa.orc.write_table(table, path),
            "ORCFile.read",
            lambda: pa.orc.ORCFile(path).read(),
        ),
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_file_that_is_written_and_read_is_one_record_each(
    log: AuditLog, table: Any, tmp_path: Path, number: int
) -> None:
    """With rows, bytes, and the digest that the same frame of pandas has."""
    path = tmp_path / "data"
    writer, write, reader, read = files(str(path))[number]
    write(table)
    found = read()
    assert recorded(log) == [("modified", writer, 3, str(path)), ("read", reader, 3, str(path))]
    frame = table.to_pandas()
    assert {one["ml.dataset.digest"] for one in log.of(READ) + log.of(MODIFIED)} == {digest(frame)}
    assert digest(found) == digest(frame)
    assert log.of(READ)[0]["ml.dataset.bytes"] == path.stat().st_size
    assert "Ada Lovelace" not in str(log.records)


def test_a_large_table_is_sampled_like_its_frame() -> None:
    """The digest says so, and is the same for both."""
    table = pa.table({f"c{number}": range(900_000) for number in range(10)})
    found = digest(table)
    assert found.startswith(SAMPLED)
    assert found == digest(table.to_pandas())


def test_a_writer_and_batches_are_counted_to_their_end(log: AuditLog, table: Any, tmp_path: Path) -> None:
    """One record for all tables and batches that were written, and one for those that were read."""
    path = str(tmp_path / "data.parquet")
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.write_batch(table.to_batches()[0])
        assert recorded(log) == []
    assert recorded(log) == [("modified", "ParquetWriter", 6, path)]
    assert sum(batch.num_rows for batch in pq.ParquetFile(path).iter_batches(2)) == 6
    assert recorded(log)[1:] == [("read", "ParquetFile.iter_batches", 6, path)]


def test_a_data_set_is_recorded_when_it_is_opened(log: AuditLog, table: Any, tmp_path: Path) -> None:
    """What C++ reads afterwards is not seen: no number of rows."""
    folder = str(tmp_path / "set")
    pa.dataset.write_dataset(table, folder, format="parquet")
    assert pa.dataset.dataset(folder).to_table().num_rows == 3
    assert recorded(log) == [("modified", "write_dataset", 3, folder), ("read", "dataset", None, folder)]


def test_streams_of_csv_json_and_arrow_are_recorded_when_they_are_opened(
    log: AuditLog, table: Any, tmp_path: Path
) -> None:
    """Where they have a place; Arrow within memory is no access to data."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert pa.json.read_json(str(tmp_path / "a.jsonl")).num_rows == 1
    assert pa.csv.open_csv(str(tmp_path / "a.csv")).read_all().num_rows == 1
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert pa.ipc.open_file(str(tmp_path / "a.arrow")).read_all().num_rows == 3
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert pa.ipc.open_stream(sink.getvalue()).read_all().num_rows == 3
    assert [(kind, operation, rows) for kind, operation, rows, _ in recorded(log)] == [
        ("read", "read_json", 1),
        ("read", "open_csv", None),
        ("modified", "new_file", None),
        ("read", "open_file", None),
    ]


def test_pandas_over_pyarrow_is_one_record(log: AuditLog, table: Any, tmp_path: Path) -> None:
    """The call of the program, not the one inside."""
    table.to_pandas().to_parquet(tmp_path / "a.parquet")
    pd.read_parquet(tmp_path / "a.parquet")
    pd.read_csv(io.BytesIO(b"a\n1\n"), engine="pyarrow")
    assert [operation for _, operation, _, _ in recorded(log)] == ["to_parquet", "read_parquet", "read_csv"]


def test_a_path_in_another_file_system_is_a_uri(log: AuditLog, table: Any, tmp_path: Path) -> None:
    """Not a path of this machine."""
    local = pa.fs.LocalFileSystem()
    pq.write_table(table, str(tmp_path / "a.parquet"), filesystem=local)
    inner = pa.fs.SubTreeFileSystem(str(tmp_path), local)
    pq.read_table("a.parquet", filesystem=inner)
    assert [name for _, _, _, name in recorded(log)] == [str(tmp_path / "a.parquet"), "subtree://a.parquet"]


def test_what_fails_is_a_failure(log: AuditLog, tmp_path: Path) -> None:
    """By its class alone."""
    with pytest.raises(FileNotFoundError):
        pq.read_table(tmp_path / "missing.parquet")
    with pytest.raises(FileNotFoundError):
        pa.csv.read_csv(str(tmp_path / "missing.csv"))
    assert [one["error.type"] for one in log.of(READ)] == ["FileNotFoundError"] * 2


def test_a_broken_hook_never_reaches_the_program(
    hooked: Hooked, broken: str, table: Any, tmp_path: Path
) -> None:
    """Every call gives what it gave, and the fault is in a record."""
    path = str(tmp_path / "a.parquet")
    with hooked("pyarrow") as log:
        pq.write_table(table, path)
        assert pq.read_table(path).num_rows == pq.ParquetFile(path).read().num_rows == 3
        assert sum(batch.num_rows for batch in pq.ParquetFile(path).iter_batches()) == 3
        with pq.ParquetWriter(path, table.schema) as writer:
            writer.write_table(table)
        assert pa.dataset.dataset(path).to_table().num_rows == 3
        assert any(record.get("audit.failed") for record in (*log.of(READ), *log.of(MODIFIED)))


def test_what_was_hooked_is_as_before() -> None:
    """Functions in Python and in Cython, and classes."""
    before = pq.read_table, pa.csv.read_csv, pq.ParquetFile.read, pq.ParquetWriter.close
    one = PyarrowIntegration()
    for _ in range(2):
        one.instrument()
        one.instrument()
        assert pa.csv.read_csv is not before[1]
        one.uninstrument()
        assert (pq.read_table, pa.csv.read_csv, pq.ParquetFile.read, pq.ParquetWriter.close) == before
