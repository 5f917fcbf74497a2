"""A data stream is rolled over while records are on their way a second time."""

from __future__ import annotations

import re
import ssl

from tests.fault.matrix import stored
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.proxy import Relay
from tests.fault.matrix.variation import varied_collector

from mlaudit.verify.proof import finding_codes as codes

_BACKING = re.compile(r"[.]ds-(.+)-\d{4}[.]\d{2}[.]\d{2}-\d{6}$")


def rolled_over(ground: Ground) -> Outcome:
    """Elasticsearch stores, its answers are lost, the collector is killed, and the data streams roll over."""
    stack = ground.stack
    trust = ssl.create_default_context(cafile=str(stack.ca_file)) if stack.ca_file else None
    with (
        Relay(stack.elasticsearch_url, trust) as relay,
        varied_collector(stack, elasticsearch_url=relay.endpoint),
    ):
        process = ground.workload("--durable-every", 20, "--rate", 2500, "--count", ground.scaled(20_000))
        ground.notebook.wait_for(ground.scaled(8_000))
        relay.deaf = True
        before = ground.count()
        wait_for(
            lambda: ground.count() > before and relay.swallowed > 0, "records stored without an answer", 60
        )
        ground.notebook.wait_for(ground.scaled(16_000))
        stack.kill_collector()
        rolled = _roll_over(ground)
        relay.deaf = False
        stack.restart_collector()
        process.finish()
        ground.drain()
    outcome = ground.judge(rolled_over=rolled)
    return _with_replays(ground, outcome)


def _roll_over(ground: Ground) -> int:
    """Gives every data stream a new index; how many."""
    indices = ground.elasticsearch.indices.get_settings(index=stored.INDEX)
    names = {match[1] for name in indices if (match := _BACKING.match(name))}
    for name in names:
        ground.elasticsearch.indices.rollover(alias=name)
    return len(names)


def _with_replays(ground: Ground, outcome: Outcome) -> Outcome:
    """What is stored twice is the same, and verify names all of it as replays and nothing else."""
    found = stored.look_up(ground.elasticsearch, ground.service)
    twice = sum(count > 1 for count in found.records.values())
    findings = [one for one in ground.verify().findings if one.code == codes.REPLAY_IDENTICAL]
    named = sum(one.through - one.sequence + 1 for one in findings)
    outcome.notes |= {"stored_twice": twice, "named_by_verify": named, "findings": len(findings)}
    outcome.require(twice > 0, "expected records stored twice after the rollover, found none")
    outcome.require(named == twice, f"expected verify to name {twice} replays, found {named}")
    outcome.require(
        outcome.duplicates == twice, f"expected {twice} replays, found {outcome.duplicates} documents"
    )
    outcome.expectation = (
        "lost 0; what is stored twice is the same, verify holds and names it replay.identical"
    )
    outcome.duplicates = 0
    return outcome


CELLS = [
    Cell(
        "rollover-in-redelivery",
        "Elasticsearch stores but its answers are lost, the collector is killed, the data streams are rolled over, "
        "and the collector sends all of it again.",
        rolled_over,
        minutes=1,
        group="rollover",
    ),
]
