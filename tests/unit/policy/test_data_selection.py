"""The policy's data: which tables, which paths, how many rows."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.policy.data_selection import make_selection
from mlaudit.policy.load import inspect_policy, load_policy, parse_policy

HEAD = """version: 1
revisions: [{number: 1, date: 2026-01-01, changes: c, reason: r, sections: ['3']}]
rules: []
"""


@pytest.mark.parametrize(
    ("patterns", "name", "recorded"),
    [
        ((), "customers", False),
        (("customers",), "customers", True),
        (("customers",), "crm.Customers", True),
        (("crm.customers",), "customers", False),
        (("crm.customers",), "CRM.CUSTOMERS", True),
        (("crm.*",), "crm.orders", True),
        (("crm.*",), "billing.orders", False),
        (("*",), "a.b.c", True),
        (("*", "!sessions"), "crm.sessions", False),
        (("*", "!crm.*"), "crm.orders", False),
        (("!sessions", "*"), "orders", True),
    ],
)
def test_a_table_is_chosen_by_its_name(patterns: tuple[str, ...], name: str, recorded: bool) -> None:
    """A pattern without a schema matches any; case is ignored; exceptions apply whatever their order."""
    assert make_selection(patterns, (), None).table(name) is recorded


@pytest.mark.parametrize(
    ("patterns", "place", "recorded"),
    [
        (("**",), "/data/a.csv", True),
        (("**",), "s3://bucket/a/b.csv", True),
        (("**",), "<BytesIO>", True),
        (("**", "!<*>"), "<BytesIO>", False),
        (("/data/*",), "/data/a/b.csv", False),
        (("/data/**",), "/data/a/b.csv", True),
        (("s3://credit-*/**",), "s3://credit-eu/a/b.parquet", True),
        (("s3://credit-*/**",), "s3://other/a/b.parquet", False),
        ((), "/data/a.csv", False),
        (("**",), "/" + "x" * 5000, True),
    ],
)
def test_a_path_is_chosen_by_path_or_uri(patterns: tuple[str, ...], place: str, recorded: bool) -> None:
    """Paths match like path patterns, with any scheme."""
    assert make_selection((), patterns, None).path(place) is recorded


def test_bulk_begins_at_the_number_of_rows() -> None:
    """Without a limit nothing is a bulk export, and an unknown row count never is."""
    selection = make_selection((), (), 10)
    assert [selection.is_bulk(rows) for rows in (None, 9, 10)] == [False, False, True]
    assert not make_selection((), (), None).is_bulk(10**9)


def test_what_is_left_out_is_the_built_in_policys() -> None:
    """The whole section, or one of its keys."""
    built_in = load_policy(None).data
    assert (built_in.tables, built_in.paths, built_in.bulk_rows) == ((), ("**",), 100_000)
    assert parse_policy(HEAD, "test").data == built_in
    named = parse_policy(f"{HEAD}data: {{tables: customers}}\n", "test").data
    assert named.tables == ("customers",)
    assert (named.paths, named.bulk_rows) == (built_in.paths, built_in.bulk_rows)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("{table: customers}", "line 4: data.table: unknown key (did you mean 'tables'?)"),
        ("{tables: 5}", "line 4: data.tables: expected patterns of table names"),
        ("{bulk_rows: 0}", "line 4: data.bulk_rows: expected the number of rows from which"),
        ("{bulk_rows: many}", "line 4: data.bulk_rows: expected the number of rows from which"),
        ("{paths: ['!/tmp/**']}", "line 4: data.paths: expected a pattern besides the exceptions"),
        ("{tables: ['']}", "line 4: data.tables[0]: expected a pattern, found an empty text"),
    ],
)
def test_a_fault_is_named_with_its_line(data: str, fault: str) -> None:
    """Unknown keys, wrong types, and exceptions from nothing."""
    (found,) = inspect_policy(f"{HEAD}data: {data}\n").faults
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        ("{paths: data/*.csv}", "'data/*.csv' matches nothing: begin with /"),
        ("{tables: ['\"customers\"']}", "matches no table: write its name without quotes"),
        ("{tables: ['crm.*', crm.orders]}", "'crm.orders' adds nothing: 'crm.*' matches all of it"),
        ("{paths: ['**', /srv/**]}", "'/srv/**' adds nothing: '**' matches all of it"),
    ],
)
def test_a_likely_mistake_is_a_warning(data: str, warning: str) -> None:
    """A pattern that cannot match, and one that another pattern makes redundant, give warnings."""
    found = inspect_policy(f"{HEAD}data: {data}\n")
    assert found.faults == ()
    assert len(found.warnings) == 1
    assert warning in found.warnings[0]


def test_explain_says_what_becomes_of_an_access() -> None:
    """Whether a table or a path is recorded, and whether its rows are an export."""
    arguments = ["policy", "explain", "--kind", "audit.data.read", "--table", "crm.orders"]
    result = CliRunner().invoke(app, [*arguments, "--path", "/srv/a.csv", "--rows", "100000", "--json"])
    assert "an access to table 'crm.orders' is not recorded (data.tables: empty)" in result.output
    assert "an access to path '/srv/a.csv' is recorded (data.paths: **)" in result.output
    assert "100000 rows are an export (data.bulk_rows: 100000)" in result.output
