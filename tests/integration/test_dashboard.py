"""Every panel of the dashboard, queried against a real Elasticsearch as Kibana would query it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from tests.namespace import Namespace
from tools.generators.detection_cases import Case

from mlaudit.catalog.load import load_catalog
from mlaudit.install.apply import install
from mlaudit.stack import Stack

pytestmark = pytest.mark.stack

FILE = Path(__file__).parents[2] / "dashboards" / "kibana" / "overview.ndjson"
VIEW, DASHBOARD = (json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines())
PANELS = {panel["panelIndex"]: panel for panel in json.loads(DASHBOARD["attributes"]["panelsJSON"])}
CONTROLS = json.loads(DASHBOARD["attributes"]["controlGroupInput"]["panelsJSON"])
RECORDS = (
    *(
        {"kind": kind, "at": number}
        for number, kind in enumerate(load_catalog().kinds)
        if not kind.endswith(".*")
    ),
    {
        "kind": "audit.ml.prediction",
        "at": 60,
        "set": {"event.outcome": "failure", "http.response.status_code": 422},
    },
    {"kind": "audit.ml.model.loaded", "at": 61, "set": {"ml.model.registration": "mismatch"}},
    {"kind": "audit.stream.ended", "at": 62, "set": {"audit.lost.count": 3}},
    {"kind": "audit.ml.prediction", "at": 63, "set": {"audit.failed": True}},
    {
        "kind": "audit.api.request",
        "at": 64,
        "set": {"mlaudit.unparsed": True, "event.dataset": "mlaudit.integrity"},
    },
)
BODIES = list(
    Case("dashboard", "samples", 0, RECORDS).bodies(load_catalog(), datetime(2026, 11, 24, 12, tzinfo=UTC))
)


def layer(panel: dict[str, Any]) -> dict[str, Any]:
    """The one layer of a panel."""
    (found,) = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"][
        "layers"
    ].values()
    return found


def lucene(query: dict[str, str]) -> dict[str, Any]:
    """A query of a saved object as Elasticsearch reads it."""
    if query["language"] == "lucene":
        return {"query_string": {"query": query["query"]}}
    assert query["query"] == ""
    return {"match_all": {}}


def bucket(column: dict[str, Any], order: str) -> dict[str, Any]:
    """The aggregation of a column that makes rows or series."""
    params = column["params"]
    if column["operationType"] == "date_histogram":
        return {"date_histogram": {"field": column["sourceField"], "fixed_interval": "10s"}}
    if column["operationType"] == "filters":
        return {"filters": {"filters": {one["label"]: lucene(one["input"]) for one in params["filters"]}}}
    missing = {"missing": "-"} if params["missingBucket"] else {}
    return {
        "terms": {
            "field": column["sourceField"],
            "size": params["size"],
            "order": {order: params["orderDirection"]},
            **missing,
        }
    }


def metric(column: dict[str, Any]) -> dict[str, Any]:
    """The aggregation of a column that makes numbers, within its filter."""
    field, operation = column["sourceField"], column["operationType"]
    inner: dict[str, Any] = {
        "count": {"value_count": {"field": "audit.record.id"}},
        "unique_count": {"cardinality": {"field": field}},
        "median": {"percentiles": {"field": field, "percents": [50]}},
        "sum": {"sum": {"field": field}},
        "max": {"max": {"field": field}},
        # Kibana asks for top_metrics or top_hits; this server has the second.
        "last_value": {"top_hits": {"size": 1, "docvalue_fields": [field], "_source": False}},
    }[operation]
    if operation == "last_value":
        assert column["filter"] == {"query": f'"{field}": *', "language": "kuery"}
        inner["top_hits"]["sort"] = [{column["params"]["sortField"]: "desc"}]
        return {"filter": {"exists": {"field": field}}, "aggs": {"value": inner}}
    wanted = lucene(column["filter"]) if "filter" in column else {"match_all": {}}
    return {"filter": wanted, "aggs": {"value": inner}}


def request(panel: dict[str, Any]) -> dict[str, Any]:
    """The search that draws a panel: its metrics in its innermost rows."""
    found = layer(panel)
    columns = {name: found["columns"][name] for name in found["columnOrder"]}
    aggs = {name: metric(column) for name, column in columns.items() if not column["isBucketed"]}
    metrics = dict(aggs)
    for name, column in reversed(columns.items()):
        if column["isBucketed"]:
            by = column["params"].get("orderBy", {}).get("columnId", "")
            # Terms are ordered by a metric of their own level.
            beside = {by: metrics[by]} if by else {}
            order = f"{by}>value" if by else ""
            if by and columns[by]["operationType"] == "median":
                order += ".50"
            aggs = {name: {**bucket(column, order), "aggs": beside | aggs}}
    query = panel["embeddableConfig"]["attributes"]["state"]["query"]
    return {"size": 0, "query": lucene(query), "aggs": aggs}


def rows(panel: dict[str, Any], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The innermost rows with at least one record, each as its values by column name."""
    columns = layer(panel)["columns"]
    names = [name for name in layer(panel)["columnOrder"] if columns[name]["isBucketed"]]

    def walk(level: dict[str, Any], rest: list[str], keys: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if rest:
            buckets = level[rest[0]]["buckets"]
            entries = buckets.items() if isinstance(buckets, dict) else [(one["key"], one) for one in buckets]
            for key, one in entries:
                if one["doc_count"]:
                    yield from walk(one, rest[1:], keys | {rest[0]: key})
        else:
            yield keys | {
                name: value(level[name]["value"]) for name in columns if name in level and name not in names
            }

    return list(walk(answer, names, {}))


def value(found: dict[str, Any]) -> Any:
    """The number or text of a metric's answer."""
    if "hits" in found:
        hits = found["hits"]["hits"]
        return next(iter(hits[0]["fields"].values()))[0] if hits else None
    return found["values"]["50.0"] if "values" in found else found["value"]


@pytest.fixture(scope="module")
def stored(stack: Stack) -> Iterator[Namespace]:
    """Samples of every kind and some failures, in data streams of their own."""
    install(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file)
    with Elasticsearch(
        stack.elasticsearch_url,
        basic_auth=stack.elasticsearch_auth,
        ca_certs=str(stack.ca_file) if stack.ca_file else None,
    ) as client:
        namespace = Namespace(client)
        namespace.store(BODIES)
        yield namespace
        namespace.empty()


def draw(name: str, stored: Namespace) -> list[dict[str, Any]]:
    """The rows of a panel."""
    panel = PANELS[name]
    return rows(panel, stored.client.search(index=stored.index, **request(panel))["aggregations"])


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_draws_something(name: str, stored: Namespace) -> None:
    """Every panel's own query returns rows, and every column has a value in at least one of them."""
    found = draw(name, stored)
    assert found
    for column in layer(PANELS[name])["columns"]:
        assert any(row[column] is not None for row in found), column


def test_every_number_is_what_its_title_says(stored: Namespace) -> None:
    """The single numbers count what the records say."""

    def number(name: str) -> int:
        ((_, found),) = draw(name, stored)[0].items()
        return int(found)

    assert number("mlaudit-records") == len(BODIES)
    assert number("mlaudit-actors") == len({body["audit.actor.id"] for body in BODIES})
    assert number("mlaudit-failed") == sum(body["event.outcome"] == "failure" for body in BODIES)
    assert number("mlaudit-lost") == 3
    trouble = {"audit.pipeline.failure", "audit.stream.abandoned"}
    flags = ("audit.policy.lowered", "audit.failed", "mlaudit.unparsed")
    assert number("mlaudit-trouble") == sum(
        body["audit.kind"] in trouble or any(body.get(flag) for flag in flags) for body in BODIES
    )


def test_the_latest_changes_come_first(stored: Namespace) -> None:
    """The table of changes shows changes only, the latest first, with who changed what."""
    found = draw("mlaudit-latest-changes", stored)
    times = [row["when"] for row in found]
    assert times == sorted(times, reverse=True)
    assert found[0]["registration"] == "mismatch"
    assert {row["kind"] for row in found} == {
        "audit.ml.config.changed",
        "audit.ml.model.saved",
        "audit.ml.model.loaded",
        "audit.environment.changed",
        "audit.policy.changed",
    }
    (config,) = (row for row in found if row["kind"] == "audit.ml.config.changed")
    assert (config["target"], config["ticket"]) == ("/config/threshold", "CHG-2041")


def test_refused_requests_are_listed_by_actor_and_status(stored: Namespace) -> None:
    """The table of failed and denied requests has one row per actor, kind, route and status."""
    found = {(row["kind"], row["status"]): row["requests"] for row in draw("mlaudit-refused", stored)}
    wanted: dict[tuple[str, int], int] = {}
    for body in BODIES:
        if body["event.outcome"] == "failure" and "http.response.status_code" in body:
            key = (body["audit.kind"], body["http.response.status_code"])
            wanted[key] = wanted.get(key, 0) + 1
    assert ("audit.ml.prediction", 422) in wanted
    assert found == wanted


def test_every_field_of_the_dashboard_is_mapped(stored: Namespace) -> None:
    """Every field of a panel or control is in the mapping of the audit data streams."""
    used = {
        column["sourceField"]
        for panel in PANELS.values()
        for column in layer(panel)["columns"].values()
        if "sourceField" in column
    }
    used |= {control["explicitInput"]["fieldName"] for control in CONTROLS.values()}
    simulated = stored.client.indices.simulate_index_template(name="logs-mlaudit.access-default")
    assert used - {"___records___"} <= set(simulated["template"]["mappings"]["properties"])


def test_every_control_offers_values(stored: Namespace) -> None:
    """Every control's field has values to choose from."""
    fields = [control["explicitInput"]["fieldName"] for control in CONTROLS.values()]
    aggs = {field: {"terms": {"field": field}} for field in fields}
    answer = stored.client.search(index=stored.index, size=0, aggs=aggs)["aggregations"]
    assert all(answer[field]["buckets"] for field in fields)
