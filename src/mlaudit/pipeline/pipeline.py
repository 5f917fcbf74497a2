"""Policy, records, seal and delivery behind two calls, ``decide`` and ``emit``."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from mlaudit.catalog.names import PIPELINE_FAILURE, kind_of
from mlaudit.deliver.ticket import LOST, SAFE, Ticket
from mlaudit.errors import (
    AuditRefusedError,
    EventError,
    MlauditError,
    SpoolError,
    SpoolUnavailableError,
    StreamOverError,
    UnconfirmedError,
)
from mlaudit.event import FAILURE, SERVICE, UNKNOWN, Actor, AuditEvent
from mlaudit.pipeline.heartbeat import Heartbeat
from mlaudit.pipeline.losses import QUIET_SECONDS, Losses
from mlaudit.pipeline.maintenance import Tender
from mlaudit.pipeline.signing import Keyring, Signing
from mlaudit.pipeline.stream import INTEGRITY, Stream
from mlaudit.policy.evaluate import CompiledPolicy, Decision, Facts
from mlaudit.records.build import RecordBuilder
from mlaudit.records.fit import escaped, fit
from mlaudit.safety.printable import guard_log
from mlaudit.safety.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlaudit.deliver.send.tally import Tally
    from mlaudit.settings import Settings

_REOPEN_SECONDS: Final = 1.0
_NEXT_STREAMS: Final = 20

_logger = logging.getLogger("mlaudit")
guard_log()


class Receipt(NamedTuple):
    """The result of an event: its record's id, and the pending result of storing it."""

    record_id: str
    ticket: Ticket

    @property
    def ok(self) -> bool:
        """Whether the record is safe now; for a durable one, whether its fsync has returned."""
        return self.ticket.ok

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until the outcome is known; see ``Ticket.wait``."""
        return self.ticket.wait(timeout)

    async def wait_async(self) -> bool:
        """As ``wait``, without blocking the event loop."""
        return (self.ticket.done and self.ticket.ok) or await self.ticket.wait_async()


class Backend(Keyring, Protocol):
    """Opens what a pipeline writes to: see ``mlaudit.pipeline.backend``, and ``mlaudit.testing`` for tests."""

    def policy(self) -> CompiledPolicy:
        """Loads and compiles the policy. Raises PolicyError or KeyFileError."""
        ...

    def snapshot(self) -> Any:
        """The policy in a JSON form that a later start compares with."""
        ...

    def open_stream(self, builder: RecordBuilder, report: Callable[[int, str], object]) -> Stream:
        """A new stream, not started. Raises SpoolError or KeyFileError."""
        ...

    def is_written(self, stream_id: str) -> bool:
        """Whether a living process writes this stream: another worker rather than an earlier start."""
        ...

    def adopt(self, builder: RecordBuilder, own_stream: str, report: Callable[[int, str], object]) -> int:
        """Drains and closes the streams of dead processes; returns their number.

        ``report`` is called with a count and a reason when records cannot be sent.
        """
        ...


@dataclass(slots=True)
class Counts:
    """The counters of a pipeline since it started; read by status and metrics."""

    emitted: int = 0
    suppressed: int = 0
    refused: int = 0
    faults: int = 0
    lost: Counter[str] = field(default_factory=Counter)


class Pipeline:
    """Turns events into stored records. Thread-safe; contains its own failures."""

    def __init__(self, settings: Settings, backend: Backend, parent_stream: str = "") -> None:
        """Loads the policy.

        Raises:
            PolicyError, KeyFileError: the policy or the pseudonym key cannot be loaded.
        """
        self.settings = settings
        self.counts = Counts()
        self.policy = backend.policy()
        self.actor = Actor(settings.service_name, SERVICE, method="process")
        self._backend = backend
        self._parent = parent_stream
        self._builder = record_builder(settings, self.policy.digest)
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._stream: Stream | None = None
        self._opening = False
        self._retry_at = 0.0
        self._losses = Losses()
        self._fault_records: RateLimit[tuple[str, str]] = RateLimit(1, QUIET_SECONDS)
        self._tender: Tender | None = None
        self._signing = Signing(settings, backend, self._write_own, self.fault)
        self._heartbeat: Heartbeat | None = None

    def decide(self, kind: str, *, route: str = "", model: str = "", actor: str = "") -> Decision:
        """The policy's decision about an event with these facts."""
        return self.policy.decide(Facts(kind, self.settings.service_name, route, model, actor))

    def emit(self, event: AuditEvent, decision: Decision | None = None, *, wait: bool = True) -> Receipt:
        """Builds the record of an event, as the policy decides, and stores it.

        Returns after the operating system has the record, or, for a durable one, after fsync. With ``wait`` False
        the caller waits for a durable record's receipt, and refuses the action where the policy says so; a failure
        is counted either way.

        Raises:
            AuditRefusedError: the record could not be stored and the policy says ``on_failure: refuse``. No other
                error is raised: it is counted, and a later ``audit.pipeline.failure`` reports it.
        """
        try:
            if event.actor is None:
                event.actor = self.actor
            if decision is None:
                get = event.fields.get
                decision = self.decide(
                    event.kind,
                    route=get("http.route", ""),
                    model=get("ml.model.name", ""),
                    actor=event.actor.id,
                )
            if decision.level == 0:
                self.counts.suppressed += 1
                return Receipt(event.record_id, SAFE)
            durable = decision.guarantee == "durable"
            ticket = self._store(event, decision, durable=durable)
        except Exception as error:  # noqa: BLE001 - auditing never breaks the service
            ticket = self._lose(event, decision, error)
        else:
            self.counts.emitted += 1
            if durable and not wait:
                self._count_unless_confirmed(ticket, event.kind, refuse=decision.on_failure == "refuse")
            elif durable and not ticket.wait():
                ticket = self._lose(event, decision, UnconfirmedError())
        return Receipt(event.record_id, ticket)

    def writable(self) -> bool:
        """Whether a record could be stored now; checked before work that must not happen unrecorded."""
        try:
            return self._ready_stream().delivery.writable()
        except MlauditError:
            return False

    def refuse(self, kind: str, error: BaseException | None = None) -> None:
        """Counts work that was refused because it could not be recorded; a later record reports it."""
        self.counts.refused += 1
        reason = "the spool cannot be written" if error is None else type(error).__name__
        self._losses.note(f"refused {kind}: {reason}")

    def fault(
        self,
        component: str,
        error: BaseException,
        *,
        kind: str = "",
        fields: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        """Contains a fault of a capture hook: counts and records it, without the data that caused it.

        With ``kind`` the event itself is recorded at metadata level and marked as failed; otherwise an
        ``audit.pipeline.failure`` names the component, at most once in ten seconds for the same fault.
        """
        self.counts.faults += 1
        name = type(error).__name__
        if self._fault_records.allow((component, name)):
            _logger.warning("audit capture fault in %s: %s", component, name)
        elif not kind:
            return
        reason = f"{component}: {name}"
        recorded = {**(fields or {}), "audit.failure.reason": reason}
        if kind:
            event = AuditEvent(
                kind, str(facts.get("outcome", UNKNOWN)), fields={**recorded, "audit.failed": True}
            )
        else:
            recorded |= {"audit.component": component, "error.type": name}
            event = AuditEvent(PIPELINE_FAILURE, FAILURE, fields=recorded)
        try:
            self.emit(event)
        except AuditRefusedError:
            _logger.debug("a fault could not be recorded either", exc_info=True)

    def close(self, reason: str, seconds: float | None = None) -> bool:
        """Ends the stream with a signature and sends the remaining records for at most ``seconds``.

        Returns whether everything was acknowledged; the rest stays in the spool for the next start. A later record
        starts a new stream.
        """
        stream = self._detach()
        if stream is None:
            return True
        self._report_losses(stream)
        ended = self._signing.end(stream, reason)
        self._backend.memory().note_stream(stream.id, *stream.head, ended=stream.closed)
        if self._heartbeat is not None:
            self._heartbeat.last()
        budget = self.settings.shutdown_seconds if seconds is None else seconds
        return stream.delivery.finish(time.monotonic() + budget, keep=not ended)

    @property
    def tally(self) -> Tally | None:
        """The totals of the deliveries; None without a spool on disk, as in tests."""
        return getattr(self._backend, "tally", None)

    @property
    def stream_id(self) -> str:
        """The id of the open stream, or "" when there is none."""
        stream = self._stream
        return "" if stream is None else stream.id

    @property
    def stream(self) -> Stream | None:
        """The open stream."""
        return self._stream

    def open(self) -> None:
        """Opens the stream now rather than with the first record.

        Raises:
            SpoolError, KeyFileError: it cannot be opened; ``emit`` retries.
        """
        self._ready_stream()

    def _store(self, event: AuditEvent, decision: Decision, *, durable: bool) -> Ticket:
        stream = self._stream or self._ready_stream()
        try:
            return stream.write(event, self._builder.build(event, decision), durable=durable)
        except SpoolError:
            raise
        except StreamOverError:
            return self._store_next(stream, event, decision, durable=durable)
        except Exception as error:  # noqa: BLE001 - whatever it is, the event is still worth a record
            return self._store_failed(stream, event, decision, error)

    def _store_next(self, over: Stream, event: AuditEvent, decision: Decision, *, durable: bool) -> Ticket:
        """Stores the event in the next stream that is not over, after ``over``.

        Raises:
            SpoolError: as ``Stream.write``. StreamOverError: after ``_NEXT_STREAMS`` streams.
        """
        left = _NEXT_STREAMS
        while True:
            self._replace(over)
            over = self._ready_stream()
            try:
                return over.write(event, self._builder.build(event, decision), durable=durable)
            except StreamOverError:
                left -= 1
                if not left:
                    raise

    def _replace(self, stream: Stream) -> None:
        """Releases a stream that is over; a stream that an interrupt left inconsistent is adopted from disk."""
        if self._detach(stream) is None:
            return
        _logger.warning(
            "stream %s was interrupted in the middle of a record; starting a new stream", stream.id
        )
        stream.delivery.finish(time.monotonic())

    def _detach(self, only: Stream | None = None) -> Stream | None:
        """Detaches the open stream and returns it; None when there is none, or it is not ``only``."""
        with self._lock:
            stream = self._stream
            if stream is None or only not in (None, stream):
                return None
            self._stream = None
            if self._tender is not None:
                self._tender.stop()
        return stream

    def _store_failed(
        self, stream: Stream, event: AuditEvent, decision: Decision, error: Exception
    ) -> Ticket:
        """Stores a reduced record of an event that could not be recorded as it was: cut, else metadata only."""
        durable = decision.guarantee == "durable"
        if isinstance(error, EventError):
            try:
                draft = self._builder.build(event, decision)
                if fit(draft.own):
                    return stream.write(event, draft, durable=durable)
            except SpoolError:
                raise
            except Exception as left:  # noqa: BLE001 - what is left can always be recorded
                error = left
        self.counts.faults += 1
        _logger.warning("audit record of %s reduced: %s", event.kind, error)
        reason = str(error) if isinstance(error, MlauditError) else type(error).__name__
        known = event.kind if kind_of(event.kind) else PIPELINE_FAILURE
        reduced = AuditEvent(
            known,
            event.outcome if event.outcome in ("success", "failure") else UNKNOWN,
            actor=self.actor,
            fields={
                "audit.failed": True,
                "audit.failure.reason": escaped(reason[:500]),
                "audit.component": "record",
            },
            timestamp=event.timestamp,
            record_id=event.record_id,
            trace_id=event.trace_id,
            span_id=event.span_id,
        )
        draft = self._builder.build(reduced, decision)
        return stream.write(reduced, draft, durable=durable)

    def _lose(self, event: AuditEvent, decision: Decision | None, error: Exception) -> Ticket:
        refuse = decision is not None and decision.on_failure == "refuse"
        self._count(event.kind, error, refuse)
        if refuse:
            raise AuditRefusedError(
                f"{event.kind}: the policy requires a record before this action, and none could be stored: {error}"
            ) from error
        return LOST

    def _count_unless_confirmed(self, ticket: Ticket, kind: str, *, refuse: bool) -> None:
        def count(confirmed: bool) -> None:
            if not confirmed:
                self._count(kind, UnconfirmedError(), refuse)

        ticket.when_settled(count)

    def _count(self, kind: str, error: Exception, refuse: bool) -> None:
        """Counts a record that could not be stored, or the action that was refused instead."""
        reason = f"{kind}: {type(error).__name__}"
        with self._counting:
            if refuse:
                self.counts.refused += 1
            else:
                self.counts.lost[reason] += 1
        if self._losses.note(f"refused {reason}" if refuse else reason):
            _logger.error("an audit record could not be stored: %s", error)

    def _ready_stream(self) -> Stream:
        with self._lock:
            if self._stream is not None:
                return self._stream
            if self._opening:
                raise SpoolUnavailableError("the stream is being opened")
            now = time.monotonic()
            if now < self._retry_at:
                raise SpoolUnavailableError(
                    "the spool cannot be opened; the last attempt was less than a second ago"
                )
            self._opening = True
            try:
                stream = self._begin()
            except Exception as error:
                self._retry_at = now + _REOPEN_SECONDS
                if isinstance(error, MlauditError):
                    raise
                raise SpoolUnavailableError(f"expected to open a stream, found {error!r}") from error
            finally:
                self._opening = False
            self._stream = stream
            self._heartbeat = Heartbeat(self.settings, stream, self.counts)
            self._tender = Tender(
                lambda: self._tend(stream),
                lambda: self._backend.adopt(self._builder, stream.id, self._note_loss),
            )
            return stream

    def _begin(self) -> Stream:
        memory = self._backend.memory()
        stream = self._backend.open_stream(self._builder, self._note_loss)
        links: dict[str, Any] = {}
        if self._parent:
            links["audit.stream.parent.id"] = self._parent
        elif (previous := memory.last_stream) and not self._backend.is_written(previous.id):
            links["audit.stream.previous.id"] = previous.id
            links["audit.stream.previous.sequence"] = previous.sequence
            links["audit.stream.previous.hash"] = previous.hash
        if self.settings.exposed:
            links["audit.stream.insecure"] = True
        try:
            stream.begin(links)
            self._signing.begun(stream)
            memory.note_stream(stream.id, *stream.head, ended=False)
            for event in memory.policy_events(self.policy, self._backend.snapshot(), self.settings.policy):
                event.actor = self.actor
                self._write_own(stream, event)
        except BaseException:
            stream.delivery.finish(time.monotonic())  # the next process adopts and closes it
            raise
        return stream

    def _note_loss(self, count: int, reason: str) -> None:
        """Counts records in the spool that cannot be delivered."""
        self._losses.note(reason, count)

    def _tend(self, stream: Stream) -> None:
        if self._heartbeat is not None:
            self._heartbeat.beat()
        self._report_losses(stream)
        if self._signing.tend(stream):
            self._backend.memory().note_stream(stream.id, *stream.head, ended=False)

    def _report_losses(self, stream: Stream) -> None:
        self._losses.report(self.actor, lambda event: self._write_own(stream, event))

    def _write_own(self, stream: Stream, event: AuditEvent) -> None:
        """Writes a record about the trail itself, which no policy reduces."""
        event.actor = event.actor or self.actor
        stream.write(event, self._builder.build(event, INTEGRITY), durable=True)


def record_builder(settings: Settings, policy_digest: str) -> RecordBuilder:
    """A builder of records with the fields that all records of this process share."""
    fields: dict[str, Any] = {
        "audit.policy.digest": policy_digest,
        "host.name": settings.host_name,
        "process.pid": os.getpid(),
        "service.name": settings.service_name,
    }
    optional = {
        "service.environment": settings.environment,
        "service.version": settings.service_version,
        "service.instance.id": settings.service_instance,
    }
    fields.update({name: value for name, value in optional.items() if value})
    return RecordBuilder(fields)
