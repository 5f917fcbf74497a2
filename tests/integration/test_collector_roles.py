"""Who may do what in Elasticsearch: least privilege, tried on the real server."""

from __future__ import annotations

import pytest
from elasticsearch import AuthorizationException, ConflictError, Elasticsearch

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
        lambda: writer.indices.delete(index=backing),
        lambda: writer.indices.put_settings(index=STREAM, settings={"index.number_of_replicas": 0}),
        lambda: writer.create(index="logs-other-default", id=identity, document=document),
    ]
    for attempt in forbidden:
        with pytest.raises(AuthorizationException):
            attempt()


def test_writer_of_ordinary_telemetry_cannot_touch_the_trail(client_of, stack, document):
    """The second exporter has a user of its own."""
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
