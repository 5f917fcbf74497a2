"""Spans of databases and object stores as accesses to data."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation import dbapi
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Status, StatusCode

from mlaudit.capture.libraries.sqlalchemy import SQLAlchemyIntegration
from mlaudit.capture.telemetry.providers import attach_to_tracer_provider
from mlaudit.testing import AuditLog, capture

READ, MODIFIED = "audit.data.read", "audit.data.modified"
HEAD = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: a, reason: b, sections: [3]}]
redact: []
rules: []
"""
POLICY = HEAD + "spans: []\ndata: {tables: customers}\n"
# What botocore 1.44's instrumentation (0.66b1) makes of real calls; it names neither bucket nor key.
BOTOCORE = {
    "rpc.system": "aws-api",
    "rpc.service": "S3",
    "cloud.region": "eu-central-1",
    "server.address": "127.0.0.1",
    "server.port": 46831,
    "aws.request_id": "R1",
    "retry_attempts": 0,
}


@pytest.fixture
def log() -> Iterator[AuditLog]:
    """Audit that records one table, and every object."""
    with capture(POLICY, instrument=False) as running:
        yield running


@pytest.fixture
def provider() -> TracerProvider:
    """Spans that no backend gets."""
    provider = TracerProvider(sampler=ALWAYS_OFF)
    attach_to_tracer_provider(provider)
    return provider


def connect(path: Path, provider: TracerProvider) -> Any:
    """A connection that makes a span of each statement."""
    return dbapi.instrument_connection(
        "opentelemetry.instrumentation.sqlite3",
        sqlite3.connect(path, check_same_thread=False),
        "sqlite",
        {},
        tracer_provider=provider,
    )


def recorded(log: AuditLog, kind: str) -> list[tuple[Any, ...]]:
    """Operation, table and outcome of each record."""
    return [
        (one["ml.dataset.operation"], one["ml.dataset.name"], one["event.outcome"]) for one in log.of(kind)
    ]


def test_statements_of_a_driver_are_recorded_without_a_literal(
    log: AuditLog, provider: TracerProvider, tmp_path: Path
) -> None:
    """For the tables that the policy names, whatever the sampler says."""
    connection = connect(tmp_path / "a.db", provider)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE orders (id INT)")
    cursor.execute("CREATE TABLE customers (id INT, name TEXT)")
    cursor.execute("INSERT INTO customers VALUES (1, 'Ada Lovelace')")
    cursor.execute("SELECT * FROM customers JOIN orders WHERE name = 'Ada Lovelace' OR 1 = ?", (1,))
    with pytest.raises(sqlite3.OperationalError):
        cursor.execute("DELETE FROM customers WHERE nothing = 'Ada Lovelace'")
    connection.close()
    assert recorded(log, READ) == [("SELECT", "customers", "success")]
    assert recorded(log, MODIFIED) == [
        ("CREATE", "customers", "success"),
        ("INSERT", "customers", "success"),
        ("DELETE", "customers", "failure"),
    ]
    (record,) = log.of(READ)
    assert record["db.system.name"] == "sqlite"
    assert record["db.collection.name"] == "customers"
    assert record["audit.target.type"] == "table"
    assert "trace.id" in record
    assert "Ada Lovelace" not in str(log.records)


@pytest.mark.parametrize(
    ("attributes", "read", "modified"),
    [
        ({"db.system.name": "mongodb", "db.collection.name": "customers", "db.operation.name": "find"}, 1, 0),
        ({"db.system.name": "x", "db.collection.name": "customers", "db.operation.name": "DELETE"}, 0, 1),
        ({"db.system": "postgresql", "db.sql.table": "customers", "db.operation": "UPDATE customers"}, 0, 1),
        ({"db.system.name": "x", "db.query.text": "SELECT * FROM crm.Customers"}, 1, 0),
        ({"db.system.name": "x", "db.query.text": "SELECT * FROM others"}, 0, 0),
        ({"db.system.name": "x", "db.collection.name": "customers"}, 0, 0),
        ({"db.query.text": "SELECT * FROM customers"}, 0, 0),
    ],
)
def test_old_and_new_names_of_attributes_are_known(
    log: AuditLog, provider: TracerProvider, attributes: dict[str, Any], read: int, modified: int
) -> None:
    """A statement, or a collection and an operation."""
    provider.get_tracer("any").start_span("query", attributes=attributes).end()
    assert (len(log.of(READ)), len(log.of(MODIFIED))) == (read, modified)


def test_sqlalchemy_over_an_instrumented_driver_is_one_record(
    log: AuditLog, provider: TracerProvider, tmp_path: Path
) -> None:
    """The hook wins while the driver's span ends inside of its statement; the driver's own use is still seen."""
    engine = sa.create_engine("sqlite://", creator=lambda: connect(tmp_path / "a.db", provider))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (id INT)")
    assert recorded(log, MODIFIED) == [("CREATE", "customers", "success")]
    integration = SQLAlchemyIntegration()
    integration.instrument()
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO customers VALUES (1)")
            assert len(connection.exec_driver_sql("SELECT * FROM customers").all()) == 1
        driver = connect(tmp_path / "a.db", provider)
        driver.cursor().execute("SELECT * FROM customers")
        driver.close()
    finally:
        integration.uninstrument()
        engine.dispose()
    assert recorded(log, MODIFIED)[1:] == [("INSERT", "customers", "success")]
    first, second = log.of(READ)
    assert first["ml.dataset.rows"] == 1
    assert "ml.dataset.rows" not in second


def test_an_entry_of_spans_decides_first(provider: TracerProvider) -> None:
    """And gets the operation that its kind needs."""
    policy = HEAD + (
        "data: {tables: customers}\n"
        "spans: [{attributes: {db.system.name: x}, kind: audit.data.read, fields: {peer: ml.dataset.name}}]\n"
    )
    with capture(policy, instrument=False) as log:
        attributes = {"db.system.name": "x", "db.query.text": "DELETE FROM customers", "peer": "warehouse"}
        provider.get_tracer("any").start_span("DELETE crm", attributes=attributes).end()
        assert recorded(log, READ) == [("DELETE", "warehouse", "success")]
        assert log.of(MODIFIED) == []


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has imported botocore."""
    import sys
    import types

    monkeypatch.setitem(sys.modules, "botocore", sys.modules.get("botocore", types.ModuleType("botocore")))


@pytest.mark.usefixtures("s3")
def test_calls_of_an_object_store_are_recorded(log: AuditLog, provider: TracerProvider) -> None:
    """As botocore's instrumentation records them; with bucket and key where a span has them."""
    tracer = provider.get_tracer("opentelemetry.instrumentation.botocore.s3")
    for method, code in (("PutObject", 200), ("GetObject", 200), ("DeleteObject", 204), ("ListBuckets", 200)):
        attributes = {**BOTOCORE, "rpc.method": method, "http.status_code": code}
        tracer.start_span(f"S3.{method}", attributes=attributes).end()
    missing = tracer.start_span("S3.GetObject", attributes={**BOTOCORE, "rpc.method": "GetObject"})
    missing.set_status(Status(StatusCode.ERROR))
    missing.end()
    named = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "S3/PutObject"}
    tracer.start_span(
        "S3.PutObject", attributes={**named, "aws.s3.bucket": "loans", "aws.s3.key": "2026/11.csv"}
    ).end()
    assert recorded(log, READ) == [("GetObject", "s3://", "success"), ("GetObject", "s3://", "failure")]
    assert recorded(log, MODIFIED) == [
        ("PutObject", "s3://", "success"),
        ("DeleteObject", "s3://", "success"),
        ("PutObject", "s3://loans/2026/11.csv", "success"),
    ]
    assert log.of(MODIFIED)[2]["ml.dataset.uri"] == "s3://loans/2026/11.csv"
    assert log.of(READ)[0]["audit.target.type"] == "object"
    assert log.of(READ)[0]["server.address"] == "127.0.0.1"


@pytest.mark.usefixtures("s3")
def test_only_the_objects_of_the_policy_are_recorded(provider: TracerProvider) -> None:
    """By bucket and key."""
    with capture(HEAD + "data: {paths: 's3://loans/**'}\n", instrument=False) as log:
        for bucket in ("loans", "logs"):
            attributes = {**BOTOCORE, "rpc.method": "GetObject", "aws.s3.bucket": bucket, "aws.s3.key": "a"}
            provider.get_tracer("any").start_span("S3.GetObject", attributes=attributes).end()
        assert recorded(log, READ) == [("GetObject", "s3://loans/a", "success")]
