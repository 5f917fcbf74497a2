"""Values from outside fill no memory: every cache is bounded, in number and in length."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import pytest

import mlaudit
from mlaudit.capture.web import http_record
from mlaudit.catalog.names import API_REQUEST
from mlaudit.event import Actor
from mlaudit.pipeline import stream
from mlaudit.pipeline.losses import QUIET_SECONDS, Losses
from mlaudit.policy import secrets
from mlaudit.policy.evaluate import CompiledPolicy, Facts, compile_policy
from mlaudit.policy.load import parse_policy
from mlaudit.policy.methods import truncate, truncate_ip
from mlaudit.policy.scrub import Scrubber
from mlaudit.safety.rate_limit import RateLimit
from mlaudit.testing import capture

KEY = b"a pseudonym key for tests only"
BY_ROUTE = """
version: 1
revisions: [{number: 1, date: 2026-01-01, changes: x, reason: y, sections: z}]
rules:
- {name: a, match: {route: /x/**, actor: a*, model: m*}, level: metadata}
"""
LONG = "x" * 100_000
# 2^61 - 1: Python reduces integers by it before they are hashed.
MODULUS = (1 << 61) - 1


@pytest.fixture(name="policy")
def compiled() -> CompiledPolicy:
    """A policy whose rules match on every value that an outsider may choose."""
    return compile_policy(parse_policy(BY_ROUTE, "test"), KEY)


def test_many_routes_models_and_actors_leave_bounded_caches(policy: CompiledPolicy) -> None:
    """The policy caches a bounded number of decisions and paths."""
    for number in range(10_000):
        policy.decide(Facts("audit.ml.prediction", "s", f"/x/{number}", f"m{number}", f"a{number}"))
        policy.route_kind("POST", f"/x/{number}")
        policy.pseudonyms.of(f"a{number}")
    assert policy._decided.cache_info().currsize <= 4096
    assert policy._kinds.cache_info().currsize <= 2048
    assert policy.pseudonyms._remembered.cache_info().currsize <= 4096


def test_long_names_are_decided_on_but_not_remembered(policy: CompiledPolicy) -> None:
    """A path of any length gives its decision and stays in no cache; so do actors, keys, addresses and texts."""
    assert policy.decide(Facts("audit.ml.prediction", "s", f"/x/{LONG}", "m", "a")).rule == "a"
    assert policy.route_kind("GET", f"/{LONG}") is None
    assert policy.pseudonyms.of(LONG) == policy.pseudonyms.of(LONG)
    assert policy.pseudonyms.of(LONG) != policy.pseudonyms.of(LONG + "y")
    assert truncate(LONG, 4) == "xxxx…"
    before = truncate_ip.cache_info().currsize, secrets._is_secret.cache_info().currsize
    for number in range(100):
        secrets.is_secret_key(f"{LONG}{number}{LONG}")
        truncate(f"{LONG}{number}", 4)
    assert (truncate_ip.cache_info().currsize, secrets._is_secret.cache_info().currsize) <= (
        before[0],
        before[1] + 1,
    )
    for cache in (policy._decided, policy._kinds, policy.pseudonyms._remembered):
        assert cache.cache_info().currsize == 0
    scrubber = Scrubber(KEY)
    scrubber.text(LONG)
    assert scrubber._cached.cache_info().currsize == 0


def test_what_a_client_says_of_itself_is_cut_before_it_is_remembered() -> None:
    """A user agent of 60 KB is remembered by its first kilobyte."""
    http_record._caller.cache_clear()
    scope = {"path": "/", "method": "GET", "client": (LONG, 1)}
    answer = http_record.Answer()
    answer.scope = scope
    for number in range(20):
        answer.headers = {
            b"user-agent": LONG.encode() + b"%d" % number,
            b"host": LONG.encode() + b"%d" % number,
        }
        event = http_record.event_of(API_REQUEST, None, answer, _trail(), Actor("a"))
        assert len(event.fields["user_agent.original"]) == 1024
        assert len(event.fields["client.address"]) == 256
    assert http_record._caller.cache_info().currsize == 1


def _trail() -> Any:
    from mlaudit.capture.request_context import RequestTrail

    return RequestTrail()


def test_long_actors_and_targets_are_not_remembered_for_the_wire() -> None:
    """Attributes of records with long names are made each time."""
    with capture(instrument=False):
        stream._repeated_attributes.cache_clear()
        before = stream._repeated_attributes.cache_info().currsize
        for number in range(20):
            mlaudit.record("audit.ml.model.saved", target=("model", f"{number}{LONG[:5000]}"))
        assert stream._repeated_attributes.cache_info().currsize == before


def test_reasons_without_end_are_counted_together() -> None:
    """An application that makes up a kind for each event fills neither the losses nor the rate limit."""
    losses = Losses()
    limit: RateLimit[tuple[str, str]] = RateLimit(1, QUIET_SECONDS)
    for number in range(5000):
        losses.note(f"audit.app.k{number}: SpoolFullError")
        limit.allow(("component", f"Error{number}"))
    assert len(losses._unreported) <= 1001
    assert sum(losses._unreported.values()) == 5000
    assert len(limit) <= 1000


def test_colliding_keys_cost_bounded_time() -> None:
    """Integers that all hash alike, as keys of a value, do not hold up the record by more than they did the caller."""
    colliding = {number * MODULUS: number for number in range(3000)}
    started = time.process_time()
    ordinary = OrderedDict((number, number) for number in colliding)
    caller = time.process_time() - started
    started = time.process_time()
    with capture(instrument=False) as log:
        mlaudit.record(
            "audit.app.collide.tried",
            fields={"labels": colliding, "ml.training.parameters": {"a": colliding}},
        )
    assert time.process_time() - started < 50 * caller + 5
    assert len(ordinary) == 3000
    assert log.of("audit.app.collide.tried")


def test_colliding_texts_are_looked_at_in_bounded_time() -> None:
    """Keys of JSON are texts, whose hash is unpredictable; the keys that are read take bounded time."""
    keys = {f"key{number}": {f"k{inner}": 1 for inner in range(10)} for number in range(1500)}
    started = time.process_time()
    Scrubber(KEY).nested(keys)
    assert time.process_time() - started < 5
