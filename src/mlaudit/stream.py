"""One chain on one spool: the stream of one writing process, from its first record to its signed end."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mlaudit._fields import SCHEMA_VERSION
from mlaudit.deliver import otlp
from mlaudit.errors import SpoolError, StreamOverError
from mlaudit.event import SYSTEM, Actor, AuditEvent, Target
from mlaudit.record.build import Draft, RecordBuilder, kind_of, rfc3339
from mlaudit.seal.chain import GENESIS, Chain
from mlaudit.seal.checkpoint import Checkpoint, Signer, sign_note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlaudit.deliver.interface import Delivery, Ticket

STARTED: Final = "audit.stream.started"
CHECKPOINT: Final = "audit.stream.checkpoint"
ENDED: Final = "audit.stream.ended"
ABANDONED: Final = "audit.stream.abandoned"
AUDITOR: Final = Actor("mlaudit", SYSTEM, method="process")
_PREVIOUS_HASH: Final = otlp.text_prefix("audit.sequence.previous_hash", len(GENESIS))
_HASH: Final = otlp.text_prefix("audit.integrity.value", len(GENESIS))


class _Untouched:
    """The records of the chain about itself hold nothing personal."""

    def apply(self, fields: dict[str, Any]) -> Sequence[str]:
        return ()


_UNTOUCHED: Final = _Untouched()


@dataclass(frozen=True, slots=True)
class _IntegrityDecision:
    """No policy can switch off, thin out or delay what proves the trail."""

    rule: str = "integrity"
    level: int = 1
    redaction: _Untouched = _UNTOUCHED
    guarantee: str = "durable"
    on_failure: str = "continue"
    retention: str = "integrity"


INTEGRITY: Final = _IntegrityDecision()


class Stream:
    """A chain, the delivery that stores it, and the signer that vouches for it. Thread-safe."""

    def __init__(self, chain: Chain, delivery: Delivery, builder: RecordBuilder, signer: Signer) -> None:
        self._chain = chain
        self.delivery = delivery
        self._builder = builder
        self._signer = signer
        self._lock = threading.RLock()
        self._in_doubt = False
        self._signed = chain.sequence
        self._unsigned_since: float | None = None
        self.last_signature: dict[str, Any] = {"key_id": signer.public_key.id, "sequence": 0, "time": ""}
        self.closed = False

    @property
    def id(self) -> str:
        """The stream's id."""
        return self._chain.stream_id

    @property
    def head(self) -> tuple[int, str]:
        """Sequence and hash of the newest record."""
        with self._lock:
            return self._chain.sequence, self._chain.head

    def begin(self, fields: Mapping[str, Any]) -> None:
        """Writes the first record: who signs, and which stream went before.

        Raises:
            SpoolError: the record could not be stored.
        """
        key = self._signer.public_key
        self._note(
            STARTED,
            {"audit.stream.key_id": key.id, "audit.stream.public_key": key.encode(), **fields},
        )

    def write(self, event: AuditEvent, draft: Draft, *, durable: bool) -> Ticket:
        """Encodes, seals and stores one record, built and redacted.

        Returns when the operating system has it; with ``durable`` the ticket settles after fsync.

        Raises:
            EventError: the fields cannot be encoded. SpoolError: the record was not stored; the chain stands
            where it stood. StreamOverError: the stream takes no more records; the next one does.
        """
        encoded = draft.encode()
        kind = kind_of(event.kind)
        severity = kind.severity if event.outcome == "success" else kind.severity_failure
        own = draft.own.get
        attributes = otlp.attribute("audit.record.id", event.record_id) + _repeated_attributes(
            self._chain.stream_id,
            own("audit.actor.id", ""),
            own("audit.actor.type", SYSTEM),
            own("audit.action", kind.action),
            event.outcome,
            own("audit.target.id"),
            own("audit.target.type", ""),
        )
        with self._lock:
            if self.over:
                raise StreamOverError(f"stream {self.id} takes no more records; begin another")
            entry = self._chain.seal(encoded.head, encoded.tail)
            place = (
                attributes,
                otlp.attribute("audit.sequence.number", entry.sequence),
                _PREVIOUS_HASH,
                entry.previous_hash.encode(),
                _HASH,
                entry.hash.encode(),
            )
            payload = otlp.log_record(
                time=event.timestamp,
                severity=severity,
                event_name=event.kind,
                body=entry.body,
                attributes=b"".join(place),
                trace_id=event.trace_id,
                span_id=event.span_id,
            )
            # An interrupt (Ctrl-C) between these steps leaves the chain and the spool of two minds.
            self._in_doubt = True
            try:
                ticket = self.delivery.append(entry.sequence, entry.digest, payload, durable=durable)
            except SpoolError:
                self._in_doubt = False
                raise
            self._chain.advance(entry)
            self._in_doubt = False
            if self._unsigned_since is None:
                self._unsigned_since = time.monotonic()
        return ticket

    @property
    def over(self) -> bool:
        """Whether the stream takes no more records: it was ended, or a write was interrupted half-way."""
        return self.closed or self._in_doubt

    def checkpoint_due(self, records: int, seconds: float) -> bool:
        """Whether so many records, or one for so long, stand without a signature."""
        since = self._unsigned_since
        if since is None:
            return False
        return self._chain.sequence - self._signed >= records or time.monotonic() - since >= seconds

    def checkpoint(self) -> None:
        """Signs the head and writes the note into the chain.

        Raises:
            SpoolError: the record could not be stored.
        """
        self._sign(CHECKPOINT, {})

    def end(self, reason: str) -> None:
        """Writes the last record of the stream, with a signature over everything before it.

        Raises:
            SpoolError: the record could not be stored.
        """
        self._sign(ENDED, {"event.reason": reason}, last=True)

    def abandon(self, reason: str, fields: Mapping[str, Any]) -> None:
        """Writes the last record of a stream whose process is gone; see ``end``."""
        self._sign(ABANDONED, {"event.reason": reason, **fields}, last=True)

    def _sign(self, kind: str, fields: Mapping[str, Any], *, last: bool = False) -> None:
        with self._lock:  # nothing may come between the head that is signed and the record that says so
            sequence, head = self._chain.sequence, self._chain.head
            checkpoint = Checkpoint(self.id, sequence, head, rfc3339(time.time_ns()))
            self._note(
                kind,
                {
                    "audit.checkpoint.sequence": sequence,
                    "audit.checkpoint.hash": head,
                    "audit.checkpoint.key_id": self._signer.public_key.id,
                    "audit.checkpoint.note": sign_note(checkpoint, self._signer),
                    **fields,
                },
            )
            self._signed = sequence
            self.last_signature = {**self.last_signature, "sequence": sequence, "time": checkpoint.time}
            self._unsigned_since = None  # the note itself is covered by the next one and does not call for it
            self.closed = last

    def _note(self, kind: str, fields: dict[str, Any]) -> None:
        event = AuditEvent(kind, actor=AUDITOR, target=Target("stream", self.id), fields=fields)
        self.write(event, self._builder.build(event, INTEGRITY), durable=True)


@lru_cache(maxsize=4096)  # who does what to what repeats from record to record
def _repeated_attributes(
    stream_id: str,
    actor: str,
    actor_type: str,
    action: str,
    outcome: str,
    target: str | None,
    kind: str,
) -> bytes:
    attributes = {
        "audit.actor.id": actor,
        "audit.actor.type": actor_type,
        "audit.action": action,
        "audit.outcome": outcome,
        "audit.schema.version": SCHEMA_VERSION,
        "audit.sequence.stream_id": stream_id,
    }
    if target is not None:
        attributes |= {"audit.target.id": target, "audit.target.type": kind}
    return b"".join(otlp.attribute(name, value) for name, value in attributes.items())
