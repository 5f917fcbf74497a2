"""Every metric that an alerting rule names exists: on the collector's own page, or among the audit's metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import urllib3
import yaml

from mlaudit.health.scrape import Scrape, fetch, parse
from mlaudit.pipeline import metrics
from mlaudit.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "collector-config" / "alerts.yaml").read_text()
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(TEXT)["groups"] for rule in group["rules"]]
DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")
SUFFIXES = {"By": "_bytes", "s": "_seconds"}


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Metric names of an expression, each with its label selectors."""
    found: list[tuple[str, dict[str, str]]] = []

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = node.matchers.matchers
            found.append((node.name, {m.name: str(m.op) for m in matchers}))
            return
        for name in ("expr", "lhs", "rhs", "args", "vector_selector", "vs"):
            child = getattr(node, name, None)
            for one in child if isinstance(child, list) else [child]:
                if one is not None:
                    walk(one)

    walk(promql_parser.parse(expression))
    return found


def prometheus_names() -> set[str]:
    """The audit's metrics as Prometheus names them when they arrive over OTLP."""
    names = set()
    for name, instrument, unit, _ in metrics.INSTRUMENTS:
        flat = name.replace(".", "_") + SUFFIXES.get(unit, "")
        names.add(flat + ("_total" if instrument == "counter" else ""))
    name, unit, _ = metrics.DURATION
    flat = name.replace(".", "_") + SUFFIXES[unit]
    return names | {flat + part for part in ("_count", "_sum", "_bucket")}


def test_rules_have_the_form_that_prometheus_reads() -> None:
    """Only known keys, a name, an expression that parses, durations, a severity, and annotations."""
    content = yaml.safe_load(TEXT)
    assert set(content) == {"groups"}
    assert len({group["name"] for group in content["groups"]}) == len(content["groups"])
    for group in content["groups"]:
        assert set(group) <= {"name", "interval", "limit", "query_offset", "labels", "rules"}
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}, rule
        assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
        assert selectors(rule["expr"]), rule["alert"]
        assert DURATION.fullmatch(rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        for text in rule["annotations"].values():
            assert text.count("{{") == text.count("}}")
            assert set(re.findall(r"\$(\w+)", text)) <= {"value", "labels"}


def test_every_rule_has_its_page_in_the_runbook() -> None:
    """The runbook's heading is where the rule says it is."""
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    for rule in RULES:
        assert rule["alert"] in headings
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_metrics_of_services_are_ours() -> None:
    """What a rule calls ``audit_...`` is a metric that a service exports."""
    named = {name for rule in RULES for name, _ in selectors(rule["expr"]) if name.startswith("audit_")}
    assert len(named) >= 8
    assert named <= prometheus_names()


@pytest.fixture
def tiny_queue(stack: Stack) -> Any:
    """The collector with the smallest queue that it accepts; restored afterwards."""
    path = stack.layout.collector / "collector.yaml"
    before = path.read_text()
    size = "${env:MLAUDIT_QUEUE_BYTES:-4294967296}"
    assert size in before
    path.write_text(before.replace(size, "1000000"))
    stack.restart_collector()
    yield
    path.write_text(before)
    stack.restart_collector()


def check(url: str, names: set[str]) -> Scrape:
    """Each selected metric is on the page, under the very name and with the labels of the rules."""
    text = urllib3.request("GET", url).data.decode()
    page = parse(text)
    for rule in RULES:
        for name, labels in selectors(rule["expr"]):
            if name in names:
                samples = [one for one in page.samples if one.name == name]
                assert samples, f"{rule['alert']}: {name} is not on the page"
                assert any(set(labels) <= set(one.labels) for one in samples), (rule["alert"], name, labels)
                assert re.search(rf"^{name}\{{", text, re.MULTILINE), f"{name} has another suffix there"
    return page


@pytest.mark.stack
def test_metrics_of_the_collector_exist(sender: Any, stack: Stack) -> None:
    """After traffic with a document that Elasticsearch rejects, the page has the metrics of the rules."""
    good, bad = sender.original(), sender.original(labels={"nul\x00key": "x"})
    assert sender.send(sender.record(good), sender.record(bad)) == 200
    sender.wait_for(lambda: bool(fetch(stack.metrics_url).rejections()), "the writer to count the refusal")
    named = {name for rule in RULES for name, _ in selectors(rule["expr"]) if name.startswith("otelcol_")}
    page = check(stack.metrics_url, named - {"otelcol_exporter_enqueue_failed_log_records"})
    refused = [
        one
        for one in page.samples
        if one.name == "otelcol_elasticsearch_docs_processed" and one.labels["outcome"] == "failed_client"
    ]
    assert refused
    assert refused[0].labels["http_response_status_code"] == "400"


@pytest.mark.stack
def test_collector_takes_no_metrics(sender: Any) -> None:
    """docs/operations.md says so, and where services' metrics go instead."""
    assert sender.post("/v1/metrics", {"resourceMetrics": []}) == 404


@pytest.mark.stack
def test_metric_of_a_full_queue_exists(sender: Any, stack: Stack, tiny_queue: None) -> None:
    """A queue without room for a record rejects the request, and counts it."""
    assert sender.send(sender.record(sender.original(user__name="x" * 1_500_000))) != 200
    page = check(stack.metrics_url, {"otelcol_exporter_enqueue_failed_log_records"})
    assert page.enqueue_failures() >= 1
