"""A probe record: sealed in a short stream of its own and sent like any other, to check that records arrive."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from mlaudit.catalog.names import PIPELINE_PROBE
from mlaudit.deliver.send.delivery import SpooledDelivery
from mlaudit.errors import MlauditError
from mlaudit.event import AuditEvent, Target
from mlaudit.health.checks import BrokenLinkError, CheckContext, Outcome, Probe
from mlaudit.pipeline.backend import SpoolBackend
from mlaudit.pipeline.pipeline import record_builder
from mlaudit.pipeline.stream import AUDITOR, INTEGRITY

#: The service of a probe where the environment names none.
NOBODY: Final = "mlaudit-doctor"
_UNNAMED: Final = "unknown_service"


def send(context: CheckContext) -> Outcome:
    """Begins a stream, writes the probe, ends the stream, and sends all three through spool and sender."""
    assert context.policy is not None
    settings = context.known
    if settings.service_name == _UNNAMED:
        settings = replace(settings, service_name=NOBODY)
    backend = SpoolBackend(settings)
    builder = record_builder(settings, context.policy.digest)
    refused: list[str] = []
    event = AuditEvent(
        PIPELINE_PROBE,
        actor=AUDITOR,
        target=Target("service", settings.service_name),
        fields={"audit.component": "health.doctor"},
    )
    try:
        stream = backend.open_stream(builder, lambda count, reason: refused.append(reason))
        try:
            stream.begin({})
            ticket = stream.write(event, builder.build(event, INTEGRITY), durable=True)
            digest = stream.head[1]
            stored = ticket.wait(context.wait)
            stream.end("the doctor is done")
        except BaseException:
            stream.delivery.finish(time.monotonic())
            raise
    except MlauditError as error:
        raise BrokenLinkError(
            "the spool to take a record", str(error), "see the check of the spool folder"
        ) from None
    context.probe = Probe(stream.id, event.record_id, digest, stream.head[0])
    sent = stream.delivery.finish(time.monotonic() + context.wait)
    if not stored:
        raise BrokenLinkError(
            "the disk to confirm a record", "no fsync came back", "check the disk of the spool"
        )
    if refused:
        raise BrokenLinkError(
            "the collector to accept the record",
            f"it rejects the content: {refused[0]}",
            "does that collector run mlaudit's configuration? The record is kept in the spool's quarantine",
        )
    if not sent:
        assert isinstance(stream.delivery, SpooledDelivery)
        why = stream.delivery.sender.counts.last_failure or f"no answer within {context.wait:g} s"
        raise BrokenLinkError(
            f"the collector to acknowledge the record within {context.wait:g} s",
            why,
            "check the collector's log; the record stays in the spool and is sent by the next process",
        )
    return Outcome(f"record {event.record_id} of stream {stream.id} is acknowledged")
