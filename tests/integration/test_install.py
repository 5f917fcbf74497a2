"""Installation into the real Elasticsearch, and the effect of its templates on documents."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from mlaudit.catalog import names
from mlaudit.catalog.load import load_catalog
from mlaudit.errors import InstallError
from mlaudit.install import abilities
from mlaudit.install.apply import Report, install
from mlaudit.install.packaged import packaged
from mlaudit.install.plan import COMPONENT, DATA_STREAM, INDEX, ROLE, Asset, differences
from mlaudit.stack import Stack

pytestmark = pytest.mark.stack

KINDS = tuple(load_catalog().kinds)
TIME = "2026-11-25T03:30:00.123456789Z"
COMPONENT_NAME = "mlaudit-settings"

Install = Callable[..., Report]


@pytest.fixture
def installing(stack: Stack) -> Install:
    """Installs into the stack's Elasticsearch as its administrator."""

    def run(**options: Any) -> Report:
        return install(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file, **options)

    return run


@pytest.fixture(scope="module")
def stream(stack: Stack) -> str:
    """A data stream for this module, created by the installed templates."""
    install(stack.elasticsearch_url, stack.elasticsearch_auth, stack.ca_file)
    return f"logs-mlaudit.prediction-{uuid.uuid4().hex}"


@pytest.fixture
def put(stream: str, elasticsearch: Elasticsearch, service: str) -> Callable[..., dict[str, Any]]:
    """Stores a document and returns the results of a search for it and of the query."""

    def run(document: dict[str, Any], query: dict[str, Any] | None = None) -> dict[str, Any]:
        document = {"@timestamp": TIME, "service.name": service, **document}
        stored = elasticsearch.create(
            index=stream, id=str(uuid.uuid4()), document=document, refresh=True, require_data_stream=True
        )
        wanted = {"bool": {"filter": [{"ids": {"values": [stored["_id"]]}}, *([query] if query else [])]}}
        hits = elasticsearch.search(index=stream, query=wanted, fields=["*"])["hits"]["hits"]
        assert len(hits) == 1, f"{query} does not find {document}"
        hit: dict[str, Any] = hits[0]
        return hit

    return run


@pytest.fixture
def changed_component(elasticsearch: Elasticsearch, installing: Install) -> Iterator[None]:
    """A component template changed by hand; restored afterwards."""
    installing()
    elasticsearch.cluster.put_component_template(
        name=COMPONENT_NAME, template={"settings": {"index.mapping.ignore_malformed": False}}
    )
    yield
    installing()


def test_second_install_changes_nothing(installing: Install) -> None:
    """The reduced profile is detected from the cluster, and a second install finds nothing to change."""
    first = installing()
    assert first.profile == "reduced"
    assert first.missing == (
        "field type wildcard",
        "field type constant_keyword",
        "field type match_only_text",
        "lifecycle management",
    )
    second = installing()
    assert second.changed == ()
    assert len(second.changes) >= len(first.changes)


@pytest.mark.usefixtures("changed_component")
def test_dry_run_shows_the_difference_and_changes_nothing(
    installing: Install, elasticsearch: Elasticsearch
) -> None:
    """A dry run names the differences and leaves the cluster unchanged; the next real install corrects them."""
    before = elasticsearch.cluster.get_component_template(name=COMPONENT_NAME).body
    report = installing(dry_run=True)
    (change,) = [one for one in report.changed if one.kind == COMPONENT]
    assert (change.name, change.action) == (COMPONENT_NAME, "update")
    assert "~ template > settings > index.mapping.ignore_malformed: false -> true" in change.differences
    assert elasticsearch.cluster.get_component_template(name=COMPONENT_NAME).body == before
    assert [one.name for one in installing().changed] == [COMPONENT_NAME]
    assert installing(dry_run=True).changed == ()


def test_data_stream_with_old_mappings_is_rolled_over(
    installing: Install, elasticsearch: Elasticsearch
) -> None:
    """A stream whose index was created before a field was mapped gets a new index, in which the field is searchable."""
    stream = f"logs-mlaudit.training-{uuid.uuid4().hex}"
    installing()
    found = elasticsearch.cluster.get_component_template(name="mlaudit-mappings").body
    template = found["component_templates"][0]["component_template"]["template"]
    del template["mappings"]["properties"]["ml.training.run_id"]
    elasticsearch.cluster.put_component_template(name="mlaudit-mappings", template=template)
    document = {"@timestamp": TIME, "ml.training.run_id": "run-1"}
    elasticsearch.create(index=stream, id="1", document=document, refresh=True)
    query = {"term": {"ml.training.run_id": "run-1"}}
    assert elasticsearch.search(index=stream, query=query)["hits"]["total"]["value"] == 0

    report = installing()
    (rolled,) = [one for one in report.changed if one.name == stream]
    assert (rolled.kind, rolled.action) == (DATA_STREAM, "roll over")
    elasticsearch.create(index=stream, id="2", document=document, refresh=True)
    assert [hit["_id"] for hit in elasticsearch.search(index=stream, query=query)["hits"]["hits"]] == ["2"]
    assert installing().changed == ()


def test_full_profile_is_refused_where_it_cannot_work(installing: Install) -> None:
    """Installing the full profile on a reduced cluster reports the missing features."""
    with pytest.raises(InstallError, match="lacks field type wildcard.*use --profile reduced"):
        installing(profile="full")


def test_full_profile_as_far_as_this_cluster_can_judge_it(elasticsearch: Elasticsearch) -> None:
    """Its privileges exist, and its templates, except lifecycle and types, are returned as they were stored."""
    assets = packaged("full")
    roles = [asset.body for asset in assets if asset.kind == ROLE]
    privileges = sorted({one for role in roles for grant in role["indices"] for one in grant["privileges"]})
    index = [{"names": ["logs-mlaudit.access-default"], "privileges": privileges}]
    assert elasticsearch.security.has_privileges(index=index)["has_all_requested"]
    for asset in (one for one in assets if one.kind == INDEX):
        body = json.loads(json.dumps(dict(asset.body)))
        body |= {"index_patterns": [f"mlaudit-test-{asset.name}-*"], "composed_of": ["mlaudit@custom"]}
        body["template"].pop("settings", None)
        body["template"].pop("mappings", None)
        name = f"mlaudit-test-{asset.name}"
        abilities.put(elasticsearch, Asset(INDEX, name, body))
        try:
            found = abilities.look(elasticsearch, [Asset(INDEX, name, body)]).assets[INDEX, name]
        finally:
            elasticsearch.indices.delete_index_template(name=name)
        assert body["template"]["data_stream_options"] == {"failure_store": {"enabled": True}}
        assert differences(body, found) == ()


def test_wrong_password_is_named(stack: Stack) -> None:
    """The error for a rejected login names the variables to set."""
    with pytest.raises(InstallError, match="refuses the credentials; set MLAUDIT_ES_USERNAME"):
        install(stack.elasticsearch_url, (stack.elasticsearch_auth[0], "wrong"), stack.ca_file)


def test_untrusted_certificate_is_named(stack: Stack) -> None:
    """The error for a certificate of an unknown authority asks for the authority's certificate."""
    if stack.ca_file is None:
        pytest.skip("the stack runs without TLS")
    with pytest.raises(InstallError, match="give its CA with --ca-file"):
        install(stack.elasticsearch_url, stack.elasticsearch_auth, None)


@pytest.mark.parametrize("kind", KINDS)
def test_sample_is_found_by_each_of_its_fields(put: Callable[..., dict[str, Any]], kind: str) -> None:
    """Every sample of the catalog is stored whole, none of its fields ignored, and found by each of them."""
    sample = load_catalog().sample_of(kind)
    queries = [query for name, value in sample.items() for query in _queries(name, value)]
    hit = put(sample, {"bool": {"filter": queries}})
    assert hit["_source"] == sample | {"service.name": sample["service.name"]}
    assert "_ignored" not in hit
    assert hit["fields"]["@timestamp"] == [sample["@timestamp"]]


@pytest.mark.parametrize(
    "document",
    [
        {"ml.prediction.rows": "many"},
        {"ml.prediction.rows": {"a": 1}},
        {"ml.prediction.rows": 1e300},
        {"ml.prediction.batch": "maybe"},
        {"ml.training.best_score": "NaN"},
        {"source.ip": "hmac:3fa1c07b:00"},
        {"source.ip": {"v4": "192.0.2.1"}},
        {"event.ingested": "yesterday"},
        {"ml.model.name": {"a": {"b": 1}}},
        {"ml.model.name": [["a"], ["b"]]},
        {"ml.model.name": "x" * 100_000},
        {"error.stack_trace": "€" * 100_000},
        {"message": {"a": 1}},
        {"message": "w" * 100_000},
        {"event.original": {"a": 1}},
        {"labels": {"k": "v" * 100_000}},
        {"labels": json.loads('{"a":' * 64 + "1" + "}" * 64)},
        {"ml.prediction.input": [[1], "a", {"b": None}]},
        {"no.such.field": {"a": [1, "b"]}},
        {"ml": {"model": {"name": {"deep": 1}}}},
    ],
    ids=lambda document: f"{next(iter(document))}={str(next(iter(document.values())))[:20]}",
)
def test_malformed_field_does_not_lose_the_document(
    put: Callable[..., dict[str, Any]], service: str, document: dict[str, Any]
) -> None:
    """A value of the wrong type, shape or length is not searchable, but its document is stored."""
    hit = put(document, {"term": {"service.name": service}})
    assert {name: hit["_source"][name] for name in document} == document


@pytest.mark.parametrize("name", sorted(names.FLATTENED_FIELDS))
def test_object_field_takes_objects_of_any_keys(put: Callable[..., dict[str, Any]], name: str) -> None:
    """An object's values are found by their keys, whatever their type and the notation of the keys."""
    value = {"a.b": 1, "c": "x", "d": {"e": [True, "y"]}, "": 0}
    for query in ({f"{name}.a.b": "1"}, {f"{name}.c": "x"}, {f"{name}.d.e": "y"}, {f"{name}.d.e": "true"}):
        assert put({name: value}, {"term": query})["_source"][name] == value


def test_long_original_is_stored_byte_for_byte(put: Callable[..., dict[str, Any]]) -> None:
    """An original of 200 KB with quotes, line separators and emoji comes back exactly, unsearchable."""
    original = json.dumps({"text": '"€\u2028😀\\ \t' * 20_000}, ensure_ascii=False)
    assert len(original.encode()) > 200_000
    hit = put({"event.original": original})
    assert hit["_source"]["event.original"].encode() == original.encode()
    assert "_ignored" not in hit


def test_another_class_gets_the_same_mappings(installing: Install, elasticsearch: Elasticsearch) -> None:
    """A data set that is unknown to this version gets the same mappings."""
    installing()
    stream = f"logs-mlaudit.novel-{uuid.uuid4().hex}"
    elasticsearch.create(
        index=stream, id="1", document={"@timestamp": TIME, "ml.model.name": "m"}, refresh=True
    )
    found = elasticsearch.search(index=stream, query={"term": {"ml.model.name": "m"}})
    assert found["hits"]["total"]["value"] == 1


def test_command_installs_with_credentials_from_files(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``mlaudit install`` reads credentials from files, and a second run reports no changes."""
    from mlaudit.cli import app

    for name, value in zip(("USERNAME", "PASSWORD"), stack.elasticsearch_auth, strict=True):
        (tmp_path / name).write_text(value + "\n", encoding="utf-8")
        monkeypatch.setenv(f"MLAUDIT_ES_{name}_FILE", str(tmp_path / name))
    arguments = ["install", "--elasticsearch", stack.elasticsearch_url]
    arguments += ["--ca-file", str(stack.ca_file)] if stack.ca_file else []
    for _ in range(2):
        app(arguments, standalone_mode=False)
    printed = capsys.readouterr().out
    assert "nothing to change" in printed
    assert stack.elasticsearch_auth[1] not in printed


def _queries(name: str, value: Any) -> Iterator[dict[str, Any]]:
    """Queries that each find a document which has this value in this field."""
    mapped = names.FIELD_TYPES[name]
    if name in names.ORIGINAL_ONLY_FIELDS or name == "audit.checkpoint.note":
        return
    if mapped == "flattened":
        yield from ({"term": {f"{name}.{key}": str(one)}} for key, one in value.items())
    elif mapped == "match_only_text":
        yield {"match_phrase": {name: value}}
    else:
        yield from ({"term": {name: one}} for one in (value if isinstance(value, list) else [value]))
