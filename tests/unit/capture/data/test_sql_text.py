"""Tables of SQL statements, from their text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlaudit.capture.data.sql_text import MAX_TABLES, escapes, is_name, parse
from mlaudit.capture.data.sql_tokens import MAX_TOKENS

CASES = [
    ("SELECT * FROM customers", "SELECT", "customers", ""),
    ("select a from crm.customers c where c.name = 'from loans'", "SELECT", "crm.customers", ""),
    ('SELECT * FROM "crm"."Customer Data" AS x', "SELECT", "crm.Customer Data", ""),
    ("SELECT * FROM `crm`.`orders`", "SELECT", "crm.orders", ""),
    ("SELECT * FROM [dbo].[orders] o WITH (NOLOCK)", "SELECT", "dbo.orders", ""),
    ("SELECT * FROM a, b AS x, c y WHERE 1 IN (1, 2)", "SELECT", "a b c", ""),
    ("SELECT * FROM a JOIN b ON a.x = b.x LEFT JOIN c USING (x, y), d ORDER BY e, f", "SELECT", "a b c d", ""),
    ("SELECT * FROM (a JOIN b ON a.x = b.x), c", "SELECT", "a b c", ""),
    ("SELECT * FROM (SELECT * FROM a WHERE x IN (SELECT y FROM b)) t, c", "SELECT", "a b c", ""),
    ("SELECT EXTRACT(year FROM born), TRIM(both FROM x) FROM people", "SELECT", "people", ""),
    ("SELECT * FROM a WHERE x IS DISTINCT FROM y", "SELECT", "a", ""),
    ("SELECT * FROM generate_series(1, 2) g, a", "SELECT", "a", ""),
    ("WITH x AS (SELECT * FROM a), y(c) AS (SELECT * FROM x) SELECT * FROM y JOIN b ON 1=1", "SELECT", "a b", ""),
    ("WITH customers AS (SELECT * FROM customers) SELECT * FROM customers", "SELECT", "customers", ""),
    ("WITH RECURSIVE t AS (SELECT 1 UNION SELECT n FROM t JOIN a ON 1=1) SELECT * FROM t", "SELECT", "a", ""),
    ("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) q JOIN x ON 1=1", "SELECT", "x", ""),
    ("SELECT a FROM t1 UNION ALL SELECT b FROM t2 EXCEPT SELECT c FROM t3", "SELECT", "t1 t2 t3", ""),
    ("SELECT * FROM a FOR UPDATE OF a", "SELECT", "a", ""),
    ("SELECT REPLACE(x, 'a', 'b') FROM a", "SELECT", "a", ""),
    ("INSERT INTO orders (a, b) VALUES (?, ?)", "INSERT", "", "orders"),
    ("INSERT INTO archive SELECT * FROM orders", "INSERT", "orders", "archive"),
    ("INSERT INTO t WITH x AS (SELECT * FROM a) SELECT * FROM x", "INSERT", "a", "t"),
    ("INSERT OR REPLACE INTO t VALUES (1)", "INSERT", "", "t"),
    ("INSERT t VALUES (1)", "INSERT", "", "t"),
    ("INSERT INTO t(a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2", "INSERT", "", "t"),
    ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE b = 2", "INSERT", "", "t"),
    ("REPLACE INTO t VALUES (1)", "REPLACE", "", "t"),
    ("UPDATE crm.customers SET name = 'Bob', x = (SELECT max(y) FROM a)", "UPDATE", "a", "crm.customers"),
    ("UPDATE ONLY t AS x SET a = b.c FROM b WHERE 1=1", "UPDATE", "b", "t"),
    ("UPDATE c SET x = 1 FROM customers c", "UPDATE", "", "customers"),
    ("UPDATE a, b SET a.x = 1, b.y = 2", "UPDATE", "", "a b"),
    ("DELETE FROM t WHERE x = 1", "DELETE", "", "t"),
    ("DELETE FROM t USING b WHERE 1=1", "DELETE", "b", "t"),
    ("DELETE c, o FROM customers c JOIN orders o ON 1=1", "DELETE", "", "customers orders"),
    ("DELETE TOP (10) FROM t", "DELETE", "", "t"),
    ("MERGE INTO t USING s ON 1=1 WHEN MATCHED THEN UPDATE SET a=1 WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
     "MERGE", "s", "t"),
    ("TRUNCATE TABLE a, b", "TRUNCATE", "", "a b"),
    ("DROP TABLE IF EXISTS a, b", "DROP", "", "a b"),
    ("CREATE TABLE IF NOT EXISTS copy_of AS SELECT * FROM a", "CREATE", "a", "copy_of"),
    ("CREATE TABLE t (a INT REFERENCES b (c) ON DELETE CASCADE ON UPDATE SET NULL)", "CREATE", "", "t"),
    ("ALTER TABLE t ADD COLUMN x INT", "ALTER", "", "t"),
    ("SELECT * INTO copy_of FROM a", "SELECT", "a", "copy_of"),
    ("SELECT * FROM a INTO OUTFILE '/tmp/x'", "SELECT", "a", ""),
    ("COPY customers (a, b) TO STDOUT", "COPY", "customers", ""),
    ("COPY customers FROM STDIN", "COPY", "", "customers"),
    ("COPY (SELECT * FROM customers) TO STDOUT", "COPY", "customers", ""),
    ("LOAD DATA INFILE 'x' INTO TABLE t", "LOAD", "", "t"),
    ("WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM gone", "DELETE", "", "a b"),
    ("SELECT 1; DELETE FROM t", "DELETE", "", "t"),
    ("EXPLAIN SELECT * FROM a", "", "", ""),
    ("EXPLAIN ANALYZE SELECT * FROM a", "SELECT", "a", ""),
    ("PRAGMA table_info('a')", "", "", ""),
    ("SELECT * FROM a -- FROM b\n/* FROM c */", "SELECT", "a", ""),
    ("SELECT $tag$ FROM b $tag$, $$ FROM c $$, E'it\\'s FROM d' FROM a", "SELECT", "a", ""),
    ("SELECT * FROM %s WHERE x = %(from)s AND y = :from_b", "SELECT", "", ""),
    ("SELECT x[1], ARRAY['a]', 'FROM b'] FROM a", "SELECT", "a", ""),
    ("SELECT 'it''s FROM b' FROM a", "SELECT", "a", ""),
    ("", "", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "operation", "read", "changed"), CASES)
def test_the_tables_of_a_statement(text: str, operation: str, read: str, changed: str) -> None:
    """What it reads, what it changes, and what it is."""
    found = parse(text, backslash=False)
    expected_read = [read] if "Customer Data" in read else read.split()
    assert (found.operation, list(found.read), list(found.changed)) == (
        operation,
        expected_read,
        changed.split(),
    )


def test_a_backslash_escapes_where_the_database_says_so() -> None:
    """Where that is not known, a table counts only if both readings see it."""
    text = r"SELECT 'it\'s', ' FROM secrets, ' FROM customers"
    assert parse(text, backslash=escapes("mysql")).read == ("customers",)
    other = r"SELECT 'C:\', ' FROM secrets ' FROM customers"
    assert parse(other, backslash=escapes("postgresql")).read == ("customers",)
    assert "secrets" not in parse(text).read
    assert "secrets" not in parse(other).read
    assert escapes("something else") is None


def test_what_mysql_runs_in_a_comment_counts() -> None:
    """A comment of its own kind hides nothing."""
    assert parse("SELECT 1 /*!50000 FROM customers */ # FROM b", backslash=True).read == ("customers",)


def test_of_a_very_long_statement_the_beginning_is_read() -> None:
    """A comment is one token however long it is; and of many tables the first are recorded."""
    assert parse("INSERT INTO a VALUES " + "(1, 'x')," * MAX_TOKENS).changed == ("a",)
    assert parse(f"SELECT /*{'x' * 1_000_000}*/ * FROM a").read == ("a",)
    many = ", ".join(f"t{number}" for number in range(100))
    assert parse(f"SELECT * FROM {many}").read == tuple(f"t{number}" for number in range(MAX_TABLES))


@pytest.mark.parametrize(
    ("text", "is_one"), [("customers", True), ("crm.customers", True), ("SELECT 1", False)]
)
def test_a_name_alone_is_told_from_a_statement(text: str, is_one: bool) -> None:
    """As pandas.read_sql does."""
    assert is_name(text) is is_one


@given(st.text(alphabet="'\"\\abFROM ,;()[]$e-/*\n", max_size=60))
def test_no_text_breaks_it_and_no_quoted_literal_is_kept(text: str) -> None:
    """Whatever stands in a literal."""
    parse(text)
    literal = text.replace("'", "''")
    found = parse(f"SELECT '{literal} FROM hidden' FROM a", backslash=False)
    assert found.read == ("a",)
