"""The searches' parts that need no cluster."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from elasticsearch import Elasticsearch

from mlaudit.detect.rule_search import Searcher, same
from mlaudit.errors import SourceError
from mlaudit.rfc3339 import from_nanoseconds

NOW = datetime(2026, 11, 25, 3, 30, tzinfo=UTC)


def test_a_time_is_written_with_all_its_nanoseconds() -> None:
    """Nanoseconds since the epoch become RFC 3339 without losing a digit."""
    assert from_nanoseconds(1_795_577_400_123_456_789) == "2026-11-25T03:30:00.123456789Z"
    assert from_nanoseconds(1_795_577_400_000_000_001) == "2026-11-25T03:30:00.000000001Z"


def test_a_group_without_a_value_is_asked_by_its_absence() -> None:
    """A field that a group's records lack must be absent in what is asked for."""
    assert same(("a", "b"), ("x", None)) == {
        "bool": {"filter": [{"term": {"a": "x"}}, {"bool": {"must_not": {"exists": {"field": "b"}}}}]}
    }


def test_a_time_without_a_zone_is_refused() -> None:
    """A time without a zone would be ambiguous between machines."""
    with pytest.raises(ValueError, match="time zone"):
        Searcher(Elasticsearch("http://127.0.0.1:1"), "logs-*", NOW.replace(tzinfo=None), NOW)


def test_a_cluster_that_is_not_there_is_an_error() -> None:
    """An unreachable cluster is an error, not an empty answer."""
    # Port 0 cannot be listened on by anything.
    with Elasticsearch("http://127.0.0.1:0", max_retries=0) as client:
        searcher = Searcher(client, "logs-*", NOW, NOW)
        with pytest.raises(SourceError, match="cannot reach Elasticsearch"):
            searcher.require()
