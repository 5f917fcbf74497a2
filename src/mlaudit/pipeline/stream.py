"""One chain on one spool: the stream of one writing process, from its first record to its signed end."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mlaudit.catalog.names import (
    SCHEMA_VERSION,
    STREAM_ABANDONED,
    STREAM_CHECKPOINT,
    STREAM_ENDED,
    STREAM_STARTED,
)
from mlaudit.deliver.send import otlp
from mlaudit.errors import SignerError, SpoolError, StreamOverError
from mlaudit.event import SYSTEM, Actor, AuditEvent, Target
from mlaudit.records.build import Draft, RecordBuilder, kind_of
from mlaudit.rfc3339 import from_nanoseconds
from mlaudit.seal.chain import GENESIS, Chain
from mlaudit.seal.checkpoint import Checkpoint, Signer, sign_note
from mlaudit.seal.keys import FileSigner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlaudit.deliver.ticket import Delivery, Ticket

AUDITOR: Final = Actor("mlaudit", SYSTEM, method="process")
_LONGEST_KEPT: Final = 1024
_PREVIOUS_HASH: Final = otlp.text_prefix("audit.sequence.previous_hash", len(GENESIS))
_HASH: Final = otlp.text_prefix("audit.integrity.value", len(GENESIS))
# A proof keeps twice as many records until their signature; see verify.proof.checkpoint_checks.
_BEHIND_SIGNATURE: Final = 1 << 14


class _Untouched:
    """No redaction: the chain's records about itself contain no personal data."""

    def apply(self, fields: dict[str, Any]) -> Sequence[str]:
        return ()


_UNTOUCHED: Final = _Untouched()


@dataclass(frozen=True, slots=True)
class _IntegrityDecision:
    """The decision for records that prove the trail: no policy can turn off, reduce or delay them."""

    rule: str = "integrity"
    level: int = 1
    redaction: _Untouched = _UNTOUCHED
    guarantee: str = "durable"
    on_failure: str = "continue"
    retention: str = "integrity"


INTEGRITY: Final = _IntegrityDecision()


class Stream:
    """A chain, the delivery that stores it, and the signer that signs it. Thread-safe."""

    def __init__(self, chain: Chain, delivery: Delivery, builder: RecordBuilder, signer: Signer) -> None:
        self._chain = chain
        self.delivery = delivery
        self._builder = builder
        self._signer = signer
        self._lock = threading.RLock()
        self._in_doubt = False
        self._signed = chain.sequence
        self._unsigned_since: float | None = None
        self.last_signature: dict[str, Any] = {"key_id": "", "sequence": 0, "time": ""}
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
        """Writes the first record, which names the signing key and the previous stream.

        Raises:
            SpoolError: the record could not be stored.
        """
        try:
            key = self._signer.public_key
        except SignerError:
            key = None  # an unreachable signer costs signatures, not records
        named = {"audit.stream.key_id": key.id, "audit.stream.public_key": key.encode()} if key else {}
        self._note(STREAM_STARTED, {**named, **fields})

    def write(self, event: AuditEvent, draft: Draft, *, durable: bool) -> Ticket:
        """Encodes, seals and stores one record, built and redacted.

        Returns when the operating system has it; with ``durable`` the ticket settles after fsync.

        Raises:
            EventError: the fields cannot be encoded. SpoolError: the record was not stored, and the chain is
            unchanged. StreamOverError: the stream accepts no more records; a new stream is needed.
        """
        encoded = draft.encode()
        kind = kind_of(event.kind)
        severity = kind.severity if event.outcome == "success" else kind.severity_failure
        own = draft.own.get
        actor, target = own("audit.actor.id", ""), own("audit.target.id")
        # Clients can choose these values: long ones are not cached.
        long = _is_long(actor) or _is_long(target)
        attributes = otlp.attribute("audit.record.id", event.record_id) + (
            _repeated_attributes.__wrapped__ if long else _repeated_attributes
        )(
            self._chain.stream_id,
            actor,
            own("audit.actor.type", SYSTEM),
            own("audit.action", kind.action),
            event.outcome,
            target,
            own("audit.target.type", ""),
        )
        with self._lock:
            if self.over:
                raise StreamOverError(f"stream {self.id} accepts no more records; start a new one")
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
            # An interrupt (Ctrl-C) between these steps leaves chain and spool inconsistent.
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
        """Whether the stream accepts no more records: it was ended, or a write was interrupted."""
        return self.closed or self._in_doubt

    def checkpoint_due(self, records: int, seconds: float) -> bool:
        """Whether ``records`` records, or one record for ``seconds``, are without a signature."""
        since = self._unsigned_since
        if since is None:
            return False
        return self._chain.sequence - self._signed >= records or time.monotonic() - since >= seconds

    def checkpoint(self, signer: Signer | None = None) -> str:
        """Signs the head, writes the note into the chain and returns it.

        A key in a file signs while the chain is locked, so the note directly follows the record that it signs. Any
        other signer may be slow, and records are written while it signs.

        Args:
            signer: the signer from now on.

        Raises:
            SignerError: signing failed, or took too long. SpoolError: the record could not be stored.
            StreamOverError: the stream has ended meanwhile.
        """
        self._signer = signer or self._signer
        begun = time.monotonic()
        with self._lock if isinstance(self._signer, FileSigner) else nullcontext():
            checkpoint = self._head_now()
            note = sign_note(checkpoint, self._signer)
            return self._write_checkpoint(checkpoint, note, begun)

    def _write_checkpoint(self, checkpoint: Checkpoint, note: str, begun: float) -> str:
        with self._lock:
            behind = self._chain.sequence - checkpoint.sequence
            if behind > _BEHIND_SIGNATURE:
                raise SignerError(f"the signature came {behind} records late; it is requested again")
            self._note_signed(STREAM_CHECKPOINT, checkpoint, note, {})
            # The next checkpoint covers the note itself, which does not make one due.
            self._unsigned_since = begun if behind else None
        return note

    def end(self, reason: str, signer: Signer | None = None) -> str:
        """Writes the last record of the stream, with a signature over everything before it.

        Returns a checkpoint for export, which covers the last record too.

        Raises:
            SignerError: signing failed; the stream is not ended. SpoolError: the record could not be stored.
        """
        return self._close(STREAM_ENDED, {"event.reason": reason}, signer)

    def abandon(self, reason: str, fields: Mapping[str, Any]) -> str:
        """Writes the last record of a stream whose process has ended; see ``end``."""
        return self._close(STREAM_ABANDONED, {"event.reason": reason, **fields}, None)

    def _close(self, kind: str, fields: Mapping[str, Any], signer: Signer | None) -> str:
        self._signer = signer or self._signer
        with self._lock:  # no record may come between the signed head and the record that ends the stream
            if self.closed:
                raise StreamOverError(f"stream {self.id} has already ended")
            checkpoint = self._head_now()
            note = sign_note(checkpoint, self._signer)
            self._note_signed(kind, checkpoint, note, fields)
            self._unsigned_since = None
            self.closed = True
        try:
            return sign_note(self._head_now(), self._signer)
        except SignerError:
            return note

    def _head_now(self) -> Checkpoint:
        sequence, head = self.head
        return Checkpoint(self.id, sequence, head, from_nanoseconds(time.time_ns()))

    def _note_signed(self, kind: str, checkpoint: Checkpoint, note: str, fields: Mapping[str, Any]) -> None:
        key_id = self._signer.public_key.id
        self._note(
            kind,
            {
                "audit.checkpoint.sequence": checkpoint.sequence,
                "audit.checkpoint.hash": checkpoint.hash,
                "audit.checkpoint.key_id": key_id,
                "audit.checkpoint.note": note,
                **fields,
            },
        )
        self._signed = checkpoint.sequence
        self.last_signature = {"key_id": key_id, "sequence": checkpoint.sequence, "time": checkpoint.time}

    def _note(self, kind: str, fields: dict[str, Any]) -> None:
        event = AuditEvent(kind, actor=AUDITOR, target=Target("stream", self.id), fields=fields)
        self.write(event, self._builder.build(event, INTEGRITY), durable=True)


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > _LONGEST_KEPT


@lru_cache(maxsize=4096)  # actor, action and target repeat from record to record
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
