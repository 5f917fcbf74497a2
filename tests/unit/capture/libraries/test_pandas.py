"""pandas: what its readers read and its writers write."""

from __future__ import annotations

import gc
import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sklearn.linear_model import LogisticRegression

import mlaudit
from mlaudit.capture.data.digest import digest
from mlaudit.capture.libraries.pandas import PandasIntegration
from mlaudit.capture.process.background import background
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

READ, MODIFIED, EXPORTED = "audit.data.read", "audit.data.modified", "audit.data.exported"
Hooked = Callable[..., AbstractContextManager[AuditLog]]
HEAD = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
redact: []
"""
POLICY = HEAD + "rules: []\ndata: {tables: [customers, orders], bulk_rows: 50}\n"


@pytest.fixture
def frame() -> pd.DataFrame:
    """Numbers and a text."""
    return pd.DataFrame({"age": [31, 42, 53], "name": ["Ada Lovelace", "Bob", "Cid"]})


@pytest.fixture
def log(hooked: Hooked) -> Iterator[AuditLog]:
    """The records under a policy with two tables and a low bulk."""
    with hooked("pandas", "sqlalchemy", policy=POLICY) as log:
        yield log


FORMATS = [
    ("csv", "csv", {"index": False}),
    ("json", "json", {}),
    ("parquet", "parquet", {}),
    ("feather", "feather", {}),
    ("orc", "orc", {}),
    ("pickle", "pickle", {}),
    ("stata", "stata", {"write_index": False}),
    ("html", "html", {}),
    ("xml", "xml", {}),
    ("excel", "excel", {}),
]
NEEDS = {"html": "lxml", "xml": "lxml", "excel": "openpyxl"}


@pytest.mark.parametrize(("name", "form", "options"), FORMATS)
def test_a_file_that_is_written_and_read_is_one_record_each(
    log: AuditLog, frame: pd.DataFrame, tmp_path: Path, name: str, form: str, options: dict[str, Any]
) -> None:
    """Where it is, its format, size, rows, columns and digest, and none of its content."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    path = tmp_path / ("data.xlsx" if name == "excel" else f"data.{name}")
    getattr(frame, f"to_{name}")(path, **options)
    found = getattr(pd, f"read_{name}")(path)
    (written,), (read,) = log.of(MODIFIED), log.of(READ)
    for record, operation in ((written, f"to_{name}"), (read, f"read_{name}")):
        assert record["ml.dataset.operation"] == operation
        assert record["ml.dataset.name"] == record["audit.target.id"] == str(path)
        assert record["ml.dataset.uri"] == path.as_uri()
        assert record["ml.dataset.format"] == form
        assert record["ml.dataset.bytes"] == path.stat().st_size
        assert record["ml.dataset.rows"] == 3
    assert written["ml.dataset.columns"] == 2
    assert written["ml.dataset.digest"] == digest(frame)
    if isinstance(found, pd.DataFrame):
        assert read["ml.dataset.digest"] == digest(found)
    assert "Ada Lovelace" not in str(log.records)


def test_a_frame_is_the_same_when_it_is_written_read_and_trained_on(hooked: Hooked, tmp_path: Path) -> None:
    """One digest from the file to the model."""
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
    with hooked("pandas", "sklearn") as log:
        frame.to_parquet(tmp_path / "loans.parquet")
        read = pd.read_parquet(tmp_path / "loans.parquet")
        LogisticRegression().fit(read, [0, 0, 1, 1])
    (written,), (found,) = log.of(MODIFIED), log.of(READ)
    (trained,) = log.of("audit.ml.training.completed")
    assert written["ml.dataset.digest"] == found["ml.dataset.digest"] == trained["ml.dataset.digest"]


def test_a_run_learns_what_it_reads_first(log: AuditLog, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Its records name the data set, and the reads name the run."""
    frame.to_csv(tmp_path / "a.csv")
    frame.to_csv(tmp_path / "b.csv")
    with mlaudit.training_run("credit", purpose="monthly retraining") as run:
        pd.read_csv(tmp_path / "a.csv")
        pd.read_csv(tmp_path / "b.csv")
    with mlaudit.training_run("credit", dataset="stated"):
        pd.read_csv(tmp_path / "a.csv")
    first, second, _ = log.of(READ)
    one, other = log.of("audit.ml.training.completed")
    assert first["ml.training.run_id"] == second["ml.training.run_id"] == run.run_id
    assert first["ml.dataset.purpose"] == "monthly retraining"
    assert one["ml.dataset.name"] == first["ml.dataset.name"] == str(tmp_path / "a.csv")
    assert one["ml.dataset.digest"] == first["ml.dataset.digest"]
    assert (other["ml.dataset.name"], "ml.dataset.digest" in other) == ("stated", False)


def test_a_statement_alone_names_no_data_set(log: AuditLog, frame: pd.DataFrame, tmp_path: Path) -> None:
    """A library's own tables are no data of the run; what pandas reads of a table is."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/crm.db")
    frame.to_sql("customers", engine, index=False)
    frame.to_sql("orders", engine, index=False)
    with mlaudit.training_run("credit"):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT * FROM orders")).all()
        read = pd.read_sql("SELECT * FROM customers", engine)
    engine.dispose()
    (record,) = log.of("audit.ml.training.completed")
    assert (record["ml.dataset.name"], record["ml.dataset.digest"]) == ("customers", digest(read))


def test_the_purpose_is_recorded(log: AuditLog, frame: pd.DataFrame, tmp_path: Path) -> None:
    """The innermost one, inside of the block alone."""
    with mlaudit.purpose("fairness report"), mlaudit.purpose("its second part"):
        frame.to_csv(tmp_path / "a.csv")
    pd.read_csv(tmp_path / "a.csv")
    assert log.of(MODIFIED)[0]["ml.dataset.purpose"] == "its second part"
    assert "ml.dataset.purpose" not in log.of(READ)[0]


def test_series_texts_and_memory(log: AuditLog, frame: pd.DataFrame, tmp_path: Path) -> None:
    """A series is written like a frame; a text that the program gets is not written; memory has no place."""
    frame["age"].to_csv(tmp_path / "age.csv")
    assert frame.to_csv() is not None
    assert frame.to_json() is not None
    buffer = io.BytesIO()
    frame.to_csv(buffer)
    buffer.seek(0)
    pd.read_csv(buffer)
    assert [one["ml.dataset.name"] for one in log.of(MODIFIED)] == [str(tmp_path / "age.csv"), "<BytesIO>"]
    assert log.of(MODIFIED)[0]["ml.dataset.rows"] == 3
    assert "ml.dataset.uri" not in log.of(READ)[0]


@pytest.mark.parametrize("ends", ["exhausted", "closed", "given up", "failed"])
def test_chunks_are_counted_when_they_have_been_read(
    log: AuditLog, frame: pd.DataFrame, tmp_path: Path, ends: str
) -> None:
    """One record with the rows that the program got."""
    path = tmp_path / "a.csv"
    frame.to_csv(path)
    if ends == "failed":
        path.write_text(path.read_text() + "3,none,Dan\n")
    reader = pd.read_csv(path, chunksize=1, dtype={"age": "int64"})
    next(reader)
    assert log.of(READ) == []
    if ends == "closed":
        reader.close()
    elif ends == "exhausted":
        assert len(list(reader)) == 2
    elif ends == "failed":
        with pytest.raises(ValueError, match="none"):
            list(reader)
    else:
        del reader
        gc.collect()
        assert background.submit(lambda: None, 10)
    (record,) = log.of(READ)
    assert record["ml.dataset.rows"] == {"closed": 1, "given up": 1}.get(ends, 3)
    assert record["event.outcome"] == ("failure" if ends == "failed" else "success")


def test_json_lines_in_chunks_are_counted(log: AuditLog, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Another reader of pandas, another way of iterating."""
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    with pd.read_json(tmp_path / "a.jsonl", lines=True, chunksize=2) as reader:
        assert [len(chunk) for chunk in reader] == [2, 1]
    assert [one["ml.dataset.rows"] for one in log.of(READ)] == [3]


def test_many_rows_are_an_export(log: AuditLog, tmp_path: Path) -> None:
    """Written or read."""
    pd.DataFrame({"a": range(50)}).to_csv(tmp_path / "a.csv")
    pd.read_csv(tmp_path / "a.csv")
    assert [one["ml.dataset.operation"] for one in log.of(EXPORTED)] == ["to_csv", "read_csv"]
    assert log.of(READ) == log.of(MODIFIED) == []


def test_what_fails_is_told_by_its_class(log: AuditLog, tmp_path: Path) -> None:
    """A missing file, and one that cannot be parsed; messages of parsers quote data."""
    with pytest.raises(FileNotFoundError):
        pd.read_csv(tmp_path / "missing.csv")
    (tmp_path / "broken.csv").write_text("a,b\n1,2\nAda,3,4,5\n")
    with pytest.raises(pd.errors.ParserError):
        pd.read_csv(tmp_path / "broken.csv")
    assert [one["error.type"] for one in log.of(READ)] == ["FileNotFoundError", "ParserError"]
    assert {one["event.outcome"] for one in log.of(READ)} == {"failure"}
    assert "Ada Lovelace" not in str(log.records)


def test_only_the_paths_of_the_policy_are_recorded(
    hooked: Hooked, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """And without paths nothing."""
    policy = HEAD + f'rules: []\ndata: {{paths: ["{tmp_path}/**", "!{tmp_path}/cache/**"]}}\n'
    with hooked("pandas", policy=policy) as log:
        (tmp_path / "cache").mkdir()
        frame.to_csv(tmp_path / "cache" / "a.csv")
        frame.to_csv(io.StringIO())
        assert log.kinds() == []
        frame.to_csv(tmp_path / "a.csv")
        assert log.kinds() == [MODIFIED]
    with hooked("pandas", policy=HEAD + "rules: []\ndata: {paths: []}\n") as log:
        pd.read_csv(tmp_path / "a.csv")
        assert log.kinds() == []


def test_sql_of_pandas_is_one_record(log: AuditLog, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Whatever it asks of SQLAlchemy: tables that are named, the outermost call, and the digest of the frame."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/crm.db")
    frame.to_sql("customers", engine, index=False)
    frame.to_sql("unnamed", engine, index=False)
    read = pd.read_sql("SELECT * FROM customers WHERE name <> 'Zoe Lovelace'", engine)
    pd.read_sql_table("customers", engine)
    pd.read_sql_query(sa.text("SELECT * FROM unnamed"), engine)
    engine.dispose()
    (written,) = log.of(MODIFIED)
    one, other = log.of(READ)
    assert (written["ml.dataset.operation"], written["ml.dataset.rows"]) == ("to_sql", 3)
    assert (one["ml.dataset.operation"], other["ml.dataset.operation"]) == ("read_sql", "read_sql_table")
    assert one["ml.dataset.digest"] == digest(read)
    assert one["db.collection.name"] == one["audit.target.id"] == "customers"
    assert one["db.system.name"] == "sqlite"
    assert one["db.namespace"].endswith("crm.db")
    assert "Zoe Lovelace" not in str(log.records)


def test_chunks_of_sql_are_counted(log: AuditLog, frame: pd.DataFrame, tmp_path: Path) -> None:
    """By SQLAlchemy and by a driver's connection."""
    connection = sqlite3.connect(tmp_path / "crm.db")
    frame.to_sql("customers", connection, index=False)
    assert len(list(pd.read_sql("SELECT * FROM customers", connection, chunksize=2))) == 2
    connection.close()
    (record,) = log.of(READ)
    assert (record["ml.dataset.rows"], record["db.system.name"]) == (3, "sqlite")


def test_a_transaction_of_the_programs_own_decides_what_was_written(
    log: AuditLog, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """``to_sql`` is done when it is committed, and not done when it is rolled back."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/crm.db")
    with engine.connect() as connection:
        connection.begin()
        frame.to_sql("customers", connection, index=False)
        assert log.of(MODIFIED) == []
        connection.commit()
        connection.begin()
        frame.to_sql("customers", connection, index=False, if_exists="append")
        connection.rollback()
    engine.dispose()
    assert [one["event.outcome"] for one in log.of(MODIFIED)] == ["success", "failure"]
    assert {one["ml.dataset.operation"] for one in log.of(MODIFIED)} == {"to_sql"}


def test_credentials_of_an_address_are_not_recorded(log: AuditLog) -> None:
    """Neither the user of a URL nor its query."""
    with pytest.raises(Exception):  # noqa: B017 - nobody answers there
        pd.read_csv("http://ada:secret@127.0.0.1:9/data.csv?signature=secret#secret")
    (record,) = log.of(READ)
    assert record["ml.dataset.uri"] == "http://127.0.0.1:9/data.csv"
    assert "secret" not in str(record)


def test_data_is_not_given_out_unrecorded(hooked: Hooked, frame: pd.DataFrame, tmp_path: Path) -> None:
    """When the policy says refuse, a file is not written and a read is not given out."""
    frame.to_csv(tmp_path / "a.csv")
    with hooked(
        "pandas", policy=HEAD + "rules: [{name: strict, level: metadata, on_failure: refuse}]\n"
    ) as log:
        log.fail(SpoolUnavailableError("broken on purpose"))
        with pytest.raises(AuditRefusedError):
            frame.to_csv(tmp_path / "b.csv")
        with pytest.raises(AuditRefusedError):
            pd.read_csv(tmp_path / "a.csv")
    assert not (tmp_path / "b.csv").exists()


def test_a_broken_hook_never_reaches_the_program(
    hooked: Hooked, broken: str, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Every call gives what it gave, and the fault is in a record."""
    with hooked("pandas", policy=POLICY) as log:
        frame.to_csv(tmp_path / "a.csv", index=False)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), frame)
        connection = sqlite3.connect(tmp_path / "crm.db")
        frame.to_sql("customers", connection, index=False)
        assert len(pd.read_sql("SELECT * FROM customers", connection)) == 3
        chunks = pd.read_sql("SELECT * FROM customers", connection, chunksize=1)
        assert len(list(chunks)) == len(list(pd.read_csv(tmp_path / "a.csv", chunksize=1))) == 3
        connection.close()
        assert any(record.get("audit.failed") for record in (*log.of(READ), *log.of(MODIFIED)))


def test_sheets_of_an_open_workbook_are_reads_of_its_file(
    log: AuditLog, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Several sheets at once are counted together."""
    pytest.importorskip("openpyxl")
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as writer:
        frame.to_excel(writer, sheet_name="one")
        frame.to_excel(writer, sheet_name="two")
    with pd.ExcelFile(path) as book:
        book.parse("one")
        pd.read_excel(book, sheet_name=None)
    assert [one["ml.dataset.name"] for one in (*log.of(MODIFIED), *log.of(READ))] == [str(path)] * 4
    assert [one["ml.dataset.rows"] for one in log.of(READ)] == [3, 6]


def test_what_was_hooked_is_as_before() -> None:
    """Readers of the module and writers of the classes."""
    before = pd.read_csv, pd.DataFrame.to_csv, pd.Series.to_csv, pd.DataFrame.to_parquet
    one = PandasIntegration()
    for _ in range(2):
        one.instrument()
        one.instrument()
        assert pd.read_csv is not before[0]
        one.uninstrument()
        assert (pd.read_csv, pd.DataFrame.to_csv, pd.Series.to_csv, pd.DataFrame.to_parquet) == before
