"""Two services on one collector: neither can impersonate the other or cause the loss of its records."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import urllib3
from tests.integration.audited import Audited

from mlaudit.detect import run_rules
from mlaudit.event import new_record_id

pytestmark = pytest.mark.stack


@pytest.fixture
def named(stack, sender):
    """Makes a sender that has a token of its own name."""

    def make(service: str):
        token = stack.named_token_file(service).read_text()
        own = SimpleNamespace(otlp_endpoint=stack.otlp_endpoint, token=token)
        return replace(sender, stack=own, service=service)

    return make


def test_sender_is_stamped_with_the_name_of_its_token(named, service):
    """A record in its sender's own name carries the authenticated name, and no flag."""
    honest = named(service)
    assert honest.send(honest.record(honest.original())) == 200
    (hit,) = honest.find(1)
    assert hit["_source"]["mlaudit.sender.id"] == service
    assert "mlaudit.sender.mismatch" not in hit["_source"]


@pytest.mark.parametrize(
    "claim",
    [
        {"service.name": "{victim}"},
        {"service.name": ["{own}", "{victim}"]},
        {"service.name": None},
    ],
    ids=["another name", "both names", "no name"],
)
def test_forged_service_name_is_stamped_and_flagged(named, service, claim):
    """A record in another service's name states its sender, and that the two differ."""
    victim, own = f"{service}-victim", f"{service}-other"
    impostor = named(own)
    record_id = new_record_id()
    text = json.dumps(claim).replace("{victim}", victim).replace("{own}", own)
    fields = {"audit.record.id": record_id, **json.loads(text)}
    assert impostor.send(impostor.record(impostor.original(**fields))) == 200
    (hit,) = impostor.find(1, query={"term": {"audit.record.id": record_id}})
    assert hit["_source"]["mlaudit.sender.id"] == own
    assert hit["_source"]["mlaudit.sender.mismatch"] is True


def test_nested_spelling_of_a_name_is_not_searchable(named, service, elasticsearch):
    """Elasticsearch would read {"service": {"name": …}} as service.name; the projection leaves such objects out."""
    victim, own = f"{service}-victim", f"{service}-other"
    impostor = named(own)
    nested = {
        "service": {"name": victim},
        "audit.actor": {"id": victim},
        "audit": {"record": [{"id": victim}]},
        "mlaudit": {"sender": {"id": victim}},
    }
    original = impostor.original(**nested)
    assert impostor.send(impostor.record(original)) == 200
    (hit,) = impostor.find(1)
    assert hit["_source"]["event.original"] == original
    names = ("service.name", "audit.actor.id", "audit.record.id", "mlaudit.sender.id")
    found = elasticsearch.search(
        index="logs-mlaudit.*", query={"bool": {"should": [{"term": {name: victim}} for name in names]}}
    )
    assert found["hits"]["total"]["value"] == 0


def test_the_stamp_cannot_be_forged_by_headers(named, service):
    """Further authorization headers, and names in other headers, do not change who the sender is."""
    honest = named(service)
    forged = {"X-Scope-OrgID": "victim", "X-Sender": "victim", "Forwarded": "for=10.0.0.1"}
    assert honest.send(honest.record(honest.original()), headers=forged) == 200
    (hit,) = honest.find(1)
    assert hit["_source"]["mlaudit.sender.id"] == service
    wrong_name = honest.stack.token.replace(service, "victim")
    assert honest.send(honest.record(honest.original()), token=wrong_name) == 401


def test_rule_fires_on_a_forged_name(named, service, stack, elasticsearch):
    """The detection rule raises one alert that names the true sender."""
    own = f"{service}-other"
    impostor = named(own)
    assert impostor.send(impostor.record(impostor.original(service__name=f"{service}-victim"))) == 200
    impostor.find(1, query={"term": {"mlaudit.sender.id": own}})
    until = datetime.now(UTC) + timedelta(seconds=1)
    alerts = run_rules(elasticsearch, until - timedelta(minutes=5), until, ["sender-mismatch"])
    (alert,) = [alert for alert in alerts if alert.group["mlaudit.sender.id"] == own]
    assert (alert.count, alert.group["service.name"]) == (1, f"{service}-victim")


def test_verify_names_what_was_sent_under_anothers_id(named, service, stack, elasticsearch, tmp_path):
    """A record with the id and place of a genuine one, sent by another service, is reported; the genuine one holds."""
    audited = Audited(stack, elasticsearch, f"{service}-victim", tmp_path)
    stream_id, count = audited.write(12)
    audited.wait_for(stream_id, count)
    genuine = audited.hits(stream_id)[6]["_source"]
    original = json.loads(genuine["event.original"]) | {"ml.model.name": "forged"}
    impostor = named(f"{service}-other")
    assert impostor.send(impostor.record(json.dumps(original, separators=(",", ":")))) == 200
    audited.wait_for(stream_id, count + 1)
    code, report = audited.verify(stream_id)
    place = original["audit.sequence.number"]
    assert code == 1
    assert [(found["code"], found["sequence"]) for found in report["findings"]] == [
        ("record.inserted", place)
    ]
    found = {
        hit["_source"]["mlaudit.sender.mismatch"]
        for hit in audited.hits(stream_id)
        if "mlaudit.sender.mismatch" in hit["_source"]
    }
    assert found == {True}


def test_no_neighbour_makes_a_record_be_lost(named, service):
    """Floods, oversized and malformed requests, bad modes and guessed ids of one do not affect another's records."""
    victim, neighbour = named(f"{service}-victim"), named(f"{service}-other")
    ids = [new_record_id() for _ in range(60)]
    stop = threading.Event()
    statuses: dict[str, set[int]] = {}

    def attack() -> None:
        while not stop.is_set():
            for name, act in _attacks(neighbour, victim.service, ids).items():
                statuses.setdefault(name, set()).add(act())

    attackers = [threading.Thread(target=attack) for _ in range(2)]
    for attacker in attackers:
        attacker.start()
    try:
        for record_id in ids:
            original = victim.original(audit__record__id=record_id, message="genuine")
            assert victim.send(victim.record(original)) == 200
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()
    hits = victim.find(len(ids), query={"term": {"mlaudit.sender.id": victim.service}})
    assert sorted(hit["_source"]["audit.record.id"] for hit in hits) == sorted(ids)
    assert {hit["_source"]["message"] for hit in hits} == {"genuine"}
    assert statuses["oversized"] == {400}
    assert statuses["malformed protobuf"] == {400}
    assert statuses["bomb"] == {400}
    assert statuses["guessed ids"] == {200}


def _attacks(neighbour, victim, ids):
    url = f"{neighbour.stack.otlp_endpoint}/v1/logs"
    authorization = {"Authorization": f"Bearer {neighbour.stack.token}"}

    def raw(body: bytes, **headers: str) -> int:
        with urllib3.PoolManager(retries=False, timeout=30) as pool:
            sent = {"Content-Type": "application/x-protobuf", **authorization, **headers}
            return pool.request("POST", url, body=body, headers=sent).status

    def guessed() -> int:
        forged = [
            neighbour.original(audit__record__id=i, service__name=victim, message="forged") for i in ids
        ]
        return neighbour.send(*(neighbour.record(original) for original in forged))

    def bad_mode() -> int:
        return neighbour.send(
            neighbour.record(neighbour.original()),
            scope_attributes={"elastic.mapping.mode": "bogus"},
            headers={"X-Elastic-Mapping-Mode": "bogus"},
        )

    return {
        "oversized": lambda: raw(b"\x0a" + b"x" * 4_300_000),
        "malformed protobuf": lambda: raw(b"\x0a\xff\xff\xff\xff\x0f" + b"\xff" * 64),
        "bomb": lambda: raw(gzip.compress(b"\0" * 50_000_000), **{"Content-Encoding": "gzip"}),
        "bad mode": bad_mode,
        "guessed ids": guessed,
        "flood": lambda: neighbour.send(
            *(neighbour.record(neighbour.original(message="y" * 900)) for _ in range(500))
        ),
    }
