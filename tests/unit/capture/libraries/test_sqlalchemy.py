"""SQLAlchemy: reads and changes of named tables, as their transactions end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from mlaudit.capture.libraries import sqlalchemy as integration
from mlaudit.capture.process.background import background
from mlaudit.capture.telemetry.providers import attach_to_tracer_provider
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError
from mlaudit.testing import AuditLog

READ, MODIFIED, EXPORTED = "audit.data.read", "audit.data.modified", "audit.data.exported"
HEAD = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: first, reason: test, sections: [3]}]
redact: []
"""
POLICY = HEAD + "rules: []\ndata: {tables: [customers, orders], bulk_rows: 50}\n"
SECRET = "Ada Lovelace"


class Base(orm.DeclarativeBase):
    """Of the mapped classes."""


class Customer(Base):
    """A named table."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list[Order]] = orm.relationship()


class Order(Base):
    """Another one."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))


class Session(Base):
    """A table that the policy does not name."""

    __tablename__ = "sessions"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """Three customers with one order each, made unaudited."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/crm.db")
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        for number in (1, 2, 3):
            session.add(Customer(id=number, name=SECRET, orders=[Order(id=number)]))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def log(hooked: Callable[..., AbstractContextManager[AuditLog]], engine: sa.Engine) -> Iterator[AuditLog]:
    """The records under a policy that names two tables."""
    with hooked("sqlalchemy", policy=POLICY) as log:
        yield log


def recorded(log: AuditLog, kind: str) -> list[tuple[Any, ...]]:
    """Operation, table, rows and outcome of each record."""
    return [
        (
            record["ml.dataset.operation"],
            record["db.collection.name"],
            record.get("ml.dataset.rows"),
            record["event.outcome"],
        )
        for record in log.of(kind)
    ]


def test_a_select_is_recorded_with_the_rows_that_were_fetched(log: AuditLog, engine: sa.Engine) -> None:
    """Where the table is, and nothing of the statement."""
    with engine.connect() as connection:
        result = connection.execute(sa.text("SELECT * FROM customers c WHERE c.name = 'Ada Lovelace'"))
        assert len(result.all()) == 3
    (record,) = log.of(READ)
    assert recorded(log, READ) == [("SELECT", "customers", 3, "success")]
    assert record["db.system.name"] == "sqlite"
    assert record["db.namespace"].endswith("crm.db")
    assert (record["audit.target.type"], record["audit.target.id"]) == ("table", "customers")
    assert record["ml.dataset.name"] == "customers"
    assert SECRET not in str(log.records)


def test_only_what_the_program_fetches_is_counted(log: AuditLog, engine: sa.Engine) -> None:
    """One row of three, one by one, by slices, and by iteration."""
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT * FROM customers")).first()
        result = connection.execute(sa.text("SELECT * FROM customers"))
        assert result.fetchone()
        assert len(result.fetchmany(1)) == 1
        result.close()
        assert len(list(connection.execute(sa.text("SELECT * FROM customers")))) == 3
        assert len(list(connection.execute(sa.text("SELECT * FROM customers")).partitions(2))) == 2
        del result
        given_up = connection.execute(sa.text("SELECT * FROM customers"))
        assert given_up.fetchone()
        del given_up
        gc.collect()
        assert background.submit(lambda: None, 10)
    assert [rows for _, _, rows, _ in recorded(log, READ)] == [1, 2, 3, 3, 1]


def test_other_tables_are_left_alone(log: AuditLog, engine: sa.Engine) -> None:
    """A table that the policy does not name, and a statement on none."""
    with engine.begin() as connection:
        connection.execute(sa.insert(Session).values(id=1))
        connection.execute(sa.text("SELECT 1"))
    assert log.kinds() == []


def test_the_orm_reads_every_table_of_a_join(log: AuditLog, engine: sa.Engine) -> None:
    """Also one that only an option of the query names."""
    with orm.Session(engine) as session:
        query = sa.select(Customer).options(orm.joinedload(Customer.orders))
        assert len(session.scalars(query).unique().all()) == 3
    assert recorded(log, READ) == [
        ("SELECT", "customers", 3, "success"),
        ("SELECT", "orders", 3, "success"),
    ]


def test_a_change_is_recorded_when_it_is_committed(log: AuditLog, engine: sa.Engine) -> None:
    """Not before."""
    with engine.connect() as connection:
        connection.execute(sa.update(Customer).where(Customer.id > 1).values(name=SECRET))
        assert log.of(MODIFIED) == []
        connection.commit()
        assert recorded(log, MODIFIED) == [("UPDATE", "customers", 2, "success")]
    assert len(log.of(MODIFIED)) == 1
    assert SECRET not in str(log.records)


def test_what_was_rolled_back_is_a_failure_that_says_so(log: AuditLog, engine: sa.Engine) -> None:
    """Nothing claims that it changed anything."""
    with pytest.raises(RuntimeError), engine.begin() as connection:
        connection.execute(sa.delete(Order))
        raise RuntimeError("the program fails")
    (record,) = log.of(MODIFIED)
    assert recorded(log, MODIFIED) == [("DELETE", "orders", 3, "failure")]
    assert record["event.reason"] == "rolled back: nothing was changed"


def test_a_savepoint_is_rolled_back_by_itself(log: AuditLog, engine: sa.Engine) -> None:
    """What was before it and what was released are committed with the rest."""
    with engine.connect() as connection:
        connection.execute(sa.update(Customer).values(name="a"))
        kept = connection.begin_nested()
        connection.execute(sa.insert(Order).values(id=9, customer_id=1))
        kept.commit()
        taken_back = connection.begin_nested()
        connection.execute(sa.delete(Order))
        taken_back.rollback()
        connection.commit()
    assert recorded(log, MODIFIED) == [
        ("DELETE", "orders", 4, "failure"),
        ("UPDATE", "customers", 3, "success"),
        ("INSERT", "orders", 1, "success"),
    ]


def test_a_connection_that_is_given_up_changed_nothing(log: AuditLog, engine: sa.Engine) -> None:
    """Neither committed nor rolled back by the program: the pool takes it back."""
    connection = engine.connect()
    connection.execute(sa.delete(Order))
    del connection
    gc.collect()
    assert background.submit(lambda: None, 10)
    (record,) = log.of(MODIFIED)
    assert recorded(log, MODIFIED) == [("DELETE", "orders", 3, "failure")]
    assert "nothing was changed" in record["event.reason"]


def test_a_flush_of_many_rows_is_one_record(log: AuditLog, engine: sa.Engine) -> None:
    """Of each table and operation, with the rows of all its statements."""
    with orm.Session(engine) as session:
        for customer in session.scalars(sa.select(Customer)):
            customer.name = f"customer {customer.id}"
            session.flush()
        session.commit()
    (record,) = log.of(MODIFIED)
    assert recorded(log, MODIFIED) == [("UPDATE", "customers", 3, "success")]
    assert record["labels"] == {"statements": "3"}


def test_a_commit_that_fails_changed_nothing(log: AuditLog, tmp_path: Path) -> None:
    """A constraint that is looked at when the transaction ends."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/deferred.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE orders (id INT REFERENCES customers (id) DEFERRABLE INITIALLY DEFERRED)"
        )
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.commit()
        connection.execute(sa.text("INSERT INTO orders VALUES (77)"))
        with pytest.raises(sa.exc.IntegrityError):
            connection.commit()
    engine.dispose()
    (record,) = [one for one in log.of(MODIFIED) if one["ml.dataset.operation"] == "INSERT"]
    assert record["event.outcome"] == "failure"
    assert record["error.type"] == "IntegrityError"


def test_autocommit_changes_at_once(log: AuditLog, engine: sa.Engine) -> None:
    """Whatever is rolled back afterwards."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.delete(Order).where(Order.id == 1))
        assert recorded(log, MODIFIED) == [("DELETE", "orders", 1, "success")]
        connection.rollback()
    assert len(log.of(MODIFIED)) == 1


def test_a_statement_that_fails_tells_the_error_without_its_values(log: AuditLog, engine: sa.Engine) -> None:
    """The class alone: messages of databases quote values."""
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.insert(Customer).values(id=1, name=SECRET))
    (record,) = log.of(MODIFIED)
    assert recorded(log, MODIFIED) == [("INSERT", "customers", None, "failure")]
    assert record["error.type"] == "IntegrityError"
    assert SECRET not in str(log.records)


def test_many_rows_are_an_export(log: AuditLog, engine: sa.Engine) -> None:
    """A read of as many as the policy says; a change never."""
    rows = [{"id": number, "customer_id": 1} for number in range(100, 160)]
    with engine.begin() as connection:
        connection.execute(sa.insert(Order), rows)
        connection.execute(sa.select(Order)).all()
    assert recorded(log, EXPORTED) == [("SELECT", "orders", 63, "success")]
    assert recorded(log, MODIFIED) == [("INSERT", "orders", 60, "success")]
    assert log.of(READ) == []


def test_a_copy_from_one_table_into_another_is_both(log: AuditLog, engine: sa.Engine) -> None:
    """A read of one and a change of the other."""
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO orders SELECT id + 10, id FROM customers"))
    assert recorded(log, MODIFIED) == [("INSERT", "orders", 3, "success")]
    assert recorded(log, READ) == [("SELECT", "customers", None, "success")]


def test_otels_spans_of_the_same_statements_make_no_second_record(
    log: AuditLog, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook wins over SQLAlchemy's instrumentation; the spans are still made."""
    provider = TracerProvider()
    attach_to_tracer_provider(provider)
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider)
    try:
        with engine.begin() as connection:
            assert len(connection.execute(sa.select(Customer)).all()) == 3
            connection.execute(sa.delete(Order))
    finally:
        SQLAlchemyInstrumentor().uninstrument()
    assert recorded(log, READ) == [("SELECT", "customers", 3, "success")]
    assert recorded(log, MODIFIED) == [("DELETE", "orders", 3, "success")]


def test_nothing_is_changed_that_could_not_be_recorded(
    hooked: Callable[..., AbstractContextManager[AuditLog]], engine: sa.Engine
) -> None:
    """When the policy says refuse, the statement does not reach the database."""
    policy = HEAD + "rules: [{name: strict, level: metadata, on_failure: refuse}]\ndata: {tables: '*'}\n"
    with hooked("sqlalchemy", policy=policy) as log:
        log.fail(SpoolUnavailableError("broken on purpose"))
        with engine.connect() as connection:
            with pytest.raises(AuditRefusedError):
                connection.execute(sa.delete(Order))
            with pytest.raises(AuditRefusedError):
                connection.execute(sa.select(Order))
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(Order)).all()) == 3


@pytest.mark.parametrize("broken", ["accesses_of", "record_access", "transaction_of", "held", "Fetched"])
def test_a_broken_listener_reaches_nobody(
    log: AuditLog, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Statements give what they gave, and the fault is recorded."""

    def raises(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(integration, broken, raises)
    with engine.begin() as connection:
        connection.execute(sa.insert(Order).values(id=9, customer_id=1))
        connection.execute(sa.text("INSERT INTO orders SELECT id + 10, id FROM customers"))
        assert len(connection.execute(sa.select(Order)).all()) == 7
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(Order)).all()) == 7
    # What the broken part left behind is told before the audit ends.
    del connection
    gc.collect()
    assert background.submit(lambda: None, 10)
    assert log.pipeline is not None
    assert log.pipeline.counts.faults > 0


def test_what_was_hooked_is_as_before() -> None:
    """Listeners and hooks are taken out, and can be set again."""
    before = sa.Connection._commit_impl
    one = integration.SQLAlchemyIntegration()
    for _ in range(2):
        one.instrument()
        one.instrument()
        assert sa.Connection._commit_impl is not before
        one.uninstrument()
        assert sa.Connection._commit_impl is before
        assert not sa.event.contains(sa.Engine, "rollback", integration._LISTENERS["rollback"])


def test_an_async_engine_is_recorded_like_any_other(log: AuditLog, tmp_path: Path) -> None:
    """Reads with their rows, changes when they are committed."""
    pytest.importorskip("aiosqlite")
    from sqlalchemy.ext.asyncio import create_async_engine

    async def work() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/async.db")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with engine.begin() as connection:
            await connection.execute(sa.insert(Customer).values(id=1, name=SECRET))
            assert len((await connection.execute(sa.select(Customer))).all()) == 1
        await engine.dispose()

    asyncio.run(work())
    assert recorded(log, READ) == [("SELECT", "customers", 1, "success")]
    assert ("INSERT", "customers", 1, "success") in recorded(log, MODIFIED)
