"""Adopts the streams of processes that have ended: closes them with a signature, drains and removes them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from mlaudit.catalog.names import STREAM_ABANDONED, STREAM_ENDED
from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.errors import CheckpointError, MlauditError, SignerError, SpoolError
from mlaudit.pipeline.heartbeat import note_adopter
from mlaudit.pipeline.stream import Stream
from mlaudit.safety.backoff import Backoff
from mlaudit.seal.chain import Chain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlaudit.deliver.send.delivery import SpooledDelivery
    from mlaudit.deliver.spool.retained import Retention
    from mlaudit.records.build import RecordBuilder
    from mlaudit.seal.checkpoint import Signer

    Report = Callable[[int, str], object]

# Every attempt to drain a stream reads it whole; a receiver is usually unreachable for longer than that takes.
_FIRST_PAUSE: Final = 15.0
_LAST_PAUSE: Final = 120.0
_GONE: Final = "its process died without ending it"
_RESTARTED: Final = (
    "the machine was restarted before its end; buffered records of the last 50 ms before may be missing"
)
_logger = logging.getLogger("mlaudit")


class Adopter:
    """Adopts the streams of one spool that no process writes any more. For one thread.

    Args:
        spool: the folder. max_bytes: see ``StreamSpool``. retention: retains delivered segments.
        deliver: creates the delivery of an adopted spool; its second argument reports quarantined records.
        signer: reads the key to close streams with.
        publish: publishes the signed note of a closed stream.
    """

    def __init__(
        self,
        spool: Path,
        max_bytes: int,
        retention: Retention,
        deliver: Callable[[StreamSpool, Report], SpooledDelivery],
        signer: Callable[[], Signer],
        publish: Callable[[str], object],
    ) -> None:
        self._spool = spool
        self._max_bytes = max_bytes
        self._retention = retention
        self._deliver = deliver
        self._signer = signer
        self._publish = publish
        self._backoffs: dict[str, Backoff] = {}  # of the streams that could not be drained

    def adopt(self, builder: RecordBuilder, own_stream: str, report: Report, seconds: float) -> int:
        """Drains every stream whose process has ended, for at most ``seconds``, and prunes retained segments.

        Args:
            builder: builds the record that closes a stream.
            own_stream: the stream of this process, or "".
            report: called with a count and a reason when records cannot be sent.
            seconds: the time limit; streams that are not drained by then stay for the next call.

        Returns:
            The number of streams that were drained and removed.
        """
        deadline = time.monotonic() + seconds
        drained = 0
        for folder in layout.streams(self._spool):
            backoff = self._backoffs.get(folder.name)
            if folder.name == own_stream or (backoff is not None and not backoff.is_due):
                continue
            try:
                spool = StreamSpool.adopt(folder, self._max_bytes, self._retention)
                done = spool is None or self._drain(spool, builder, own_stream, report, deadline)
                drained += done and spool is not None
            except (MlauditError, OSError) as error:
                _logger.warning("%s stays in the spool: %s", folder, error)
                done = False
            if done:
                self._backoffs.pop(folder.name, None)
            else:
                self._backoffs.setdefault(folder.name, Backoff(_FIRST_PAUSE, _LAST_PAUSE)).defer()
        self._retention.prune()
        return drained

    def _drain(
        self, spool: StreamSpool, builder: RecordBuilder, own_stream: str, report: Report, deadline: float
    ) -> bool:
        for damage in spool.damage:
            report(*damage)
        spool.on_damage = report
        if not spool.last_sequence:
            spool.close(remove=True)
            return True
        delivery = self._deliver(spool, report)
        ended = True
        try:
            note_adopter(spool.folder, own_stream)
            if not _is_ended(spool):
                ended = self._close(spool, delivery, builder, own_stream, report)
        except BaseException:
            spool.close(remove=False)
            raise
        delivery.sender.start()
        return delivery.finish(deadline, keep=not ended) and ended

    def _close(
        self,
        spool: StreamSpool,
        delivery: SpooledDelivery,
        builder: RecordBuilder,
        own_stream: str,
        report: Report,
    ) -> bool:
        """Writes the end of a stream; False when it cannot be signed or written now, and is retried later."""
        name = spool.folder.name
        if spool.acknowledged.sequence > spool.last_sequence:
            # The receiver has newer records; a second record must not take the sequence of one of them.
            last, known = spool.acknowledged.sequence, spool.last_sequence
            report(
                0,
                f"stream {name} cannot be ended: record {last} was delivered, the last readable record is {known}",
            )
            return True
        stream = Stream(
            Chain(name, spool.last_sequence, spool.last_digest.hex()), delivery, builder, self._signer()
        )
        try:
            note = stream.abandon(*_abandonment_fields(spool, own_stream))
        except (SignerError, SpoolError) as error:  # draining also frees a full disk
            _logger.warning("stream %s is drained but not closed yet: %s", name, error)
            return False
        _logger.warning("stream %s was left behind and is now drained and closed", name)
        try:
            self._publish(note)
        except CheckpointError as error:
            _logger.error("%s", error)
        return True


def _is_ended(spool: StreamSpool) -> bool:
    """Whether the stream's last record ends the stream."""
    return LogRecord.FromString(spool.adopted_head).event_name in (STREAM_ENDED, STREAM_ABANDONED)


def _abandonment_fields(spool: StreamSpool, own_stream: str) -> tuple[str, dict[str, Any]]:
    """The reason why another process closes a stream, and the fields of the record that says so."""
    reason = _RESTARTED if spool.restarted else _GONE
    if spool.torn_bytes:
        reason += f"; {spool.torn_bytes} bytes of an unfinished write were cut off"
    fields: dict[str, Any] = {"audit.stream.restarted": True} if spool.restarted else {}
    if own_stream:
        fields["audit.stream.adopted_by"] = own_stream
    if spool.damage:
        fields["audit.lost.count"] = sum(damage.records for damage in spool.damage)
        fields["audit.lost.reason"] = "; ".join(damage.reason for damage in spool.damage)[:1000]
    return reason, fields
