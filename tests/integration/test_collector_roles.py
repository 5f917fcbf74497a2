"""Least privilege in Elasticsearch, tested on the real server."""

from __future__ import annotations

import pytest
from elasticsearch import ApiError, AuthorizationException, ConflictError, Elasticsearch

from mlaudit.event import new_record_id
from mlaudit.stack.credentials import TELEMETRY, WRITER

pytestmark = pytest.mark.stack

STREAM = "logs-mlaudit.prediction-default"


@pytest.fixture
def client_of(stack):
    """Makes a client for one of the stack's users."""
    clients = []

    def make(user: str, password: str) -> Elasticsearch:
        client = Elasticsearch(
            stack.elasticsearch_url, basic_auth=(user, password), ca_certs=str(stack.ca_file)
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def document(service):
    """A minimal audit document."""
    return {"@timestamp": "2026-11-25T03:30:00Z", "service.name": service, "message": "first"}


def _status(attempt) -> int:
    try:
        attempt()
    except ApiError as error:
        return error.status_code
    return 200


def test_writer_can_add_and_nothing_else(client_of, stack, document):
    """The collector's user creates a document; it cannot overwrite, update, delete, read or search."""
    writer = client_of(WRITER, stack.credentials.writer)
    identity = new_record_id()
    created = writer.create(index=STREAM, id=identity, document=document)
    backing = created["_index"]
    with pytest.raises(ConflictError):
        writer.create(index=STREAM, id=identity, document=document | {"message": "second"})
    forbidden = [
        lambda: writer.index(
            index=backing, id=identity, document=document, if_seq_no=created["_seq_no"], if_primary_term=1
        ),
        lambda: writer.update(index=backing, id=identity, doc={"message": "second"}),
        lambda: writer.delete(index=backing, id=identity),
        lambda: writer.get(index=backing, id=identity),
        lambda: writer.search(index=STREAM),
        lambda: writer.count(index=STREAM),
        lambda: writer.open_point_in_time(index=STREAM, keep_alive="1m"),
        lambda: writer.indices.delete(index=backing),
        lambda: writer.indices.create(index="logs-mlaudit.prediction-mine"),
        lambda: writer.indices.create(index="another"),
        lambda: writer.indices.put_mapping(index=STREAM, properties={"mine": {"type": "keyword"}}),
        lambda: writer.indices.get_mapping(index=STREAM),
        lambda: writer.indices.put_alias(index=backing, name="mine"),
        lambda: writer.indices.update_aliases(actions=[{"remove_index": {"index": backing}}]),
        lambda: writer.indices.rollover(alias=STREAM),
        lambda: writer.indices.close(index=backing),
        lambda: writer.indices.refresh(index=STREAM),
        lambda: writer.indices.put_index_template(name="mine", index_patterns=["logs-mlaudit.*"]),
        lambda: writer.cluster.put_component_template(name="mlaudit@custom", template={}),
        lambda: writer.cluster.put_settings(persistent={"action.auto_create_index": "false"}),
        lambda: writer.indices.put_settings(index=STREAM, settings={"index.number_of_replicas": 0}),
        lambda: writer.create(index="logs-other-default", id=identity, document=document),
    ]
    answers = [_status(attempt) for attempt in forbidden]
    assert [(number, status) for number, status in enumerate(answers) if status != 403] == []
    bulk = writer.bulk(
        operations=[
            {
                "index": {
                    "_index": backing,
                    "_id": identity,
                    "if_seq_no": created["_seq_no"],
                    "if_primary_term": 1,
                }
            },
            document | {"message": "second"},
            {"update": {"_index": backing, "_id": identity}},
            {"doc": {"message": "second"}},
            {"delete": {"_index": backing, "_id": identity}},
        ]
    )
    assert [next(iter(item.values()))["status"] for item in bulk["items"]] == [403, 403, 403]
    allowed = client_of(*stack.elasticsearch_auth).get(index=backing, id=identity)
    assert (allowed["_version"], allowed["_source"]["message"]) == (1, "first")


def test_writer_has_no_other_privilege(client_of, stack):
    """Elasticsearch's privilege check denies the writer all but adding, including APIs that this server lacks."""
    cluster = [
        "manage",
        "monitor",
        "manage_pipeline",
        "manage_ingest_pipelines",
        "manage_index_templates",
        "manage_ilm",
    ]
    cluster += ["manage_security", "manage_api_key", "manage_own_api_key", "read_pipeline", "manage_slm"]
    index = [
        "read",
        "index",
        "write",
        "delete",
        "create",
        "create_index",
        "delete_index",
        "manage",
        "maintenance",
    ]
    index += [
        "monitor",
        "view_index_metadata",
        "read_cross_cluster",
        "manage_data_stream_lifecycle",
        "manage_ilm",
    ]
    writer = client_of(WRITER, stack.credentials.writer)
    answer = writer.security.has_privileges(
        cluster=cluster,
        index=[
            {"names": ["logs-mlaudit.prediction-default"], "privileges": index},
            {"names": ["logs-other-default", "another"], "privileges": [*index, "create_doc"]},
            {"names": ["logs-mlaudit.prediction-default"], "privileges": ["create_doc"]},
        ],
    )
    granted = {name for name, has in answer["cluster"].items() if has}
    granted |= {
        f"{name} {privilege}"
        for name, found in answer["index"].items()
        for privilege, has in found.items()
        if has
    }
    assert granted == {"logs-mlaudit.prediction-default create_doc"}


def test_writer_of_ordinary_telemetry_cannot_touch_the_trail(client_of, stack, document):
    """The exporter of ordinary telemetry has its own user, without access to the trail."""
    telemetry = client_of(TELEMETRY, stack.credentials.telemetry)
    with pytest.raises(AuthorizationException):
        telemetry.create(index=STREAM, id=new_record_id(), document=document)
    assert telemetry.create(index="logs-generic.otel-default", document=document, id=new_record_id())


def test_reader_can_read_and_nothing_else(client_of, stack, sender, document):
    """The auditor's user searches the trail; it cannot add to it."""
    assert sender.send(sender.record(sender.original())) == 200
    sender.find(1)
    reader = client_of(*stack.reader_auth)
    found = reader.search(index="logs-mlaudit.*", query={"term": {"service.name": sender.service}})
    assert found["hits"]["total"]["value"] == 1
    with pytest.raises(AuthorizationException):
        reader.create(index=STREAM, id=new_record_id(), document=document)
    with pytest.raises(AuthorizationException):
        reader.search(index="logs-generic.otel-default")


def test_nobody_gets_in_without_a_password(sender, stack):
    """Security is on: an anonymous request is refused."""
    pool = sender.pool.__class__(ca_certs=str(stack.ca_file))
    assert pool.request("GET", f"{stack.elasticsearch_url}/_search").status == 401
