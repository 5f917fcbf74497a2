"""Sends records from the spool to the receiver: a record leaves the spool only after a full acknowledgement."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value

from mlaudit.deliver.send.answer import Answer, Verdict
from mlaudit.errors import SpoolError
from mlaudit.safety.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.deliver.send.otlp import Envelope
    from mlaudit.deliver.send.transport import Transport
    from mlaudit.deliver.spool.files import Ack, Frame
    from mlaudit.deliver.spool.spool import StreamSpool

BATCH_BYTES: Final = 1 << 20
LINGER_SECONDS: Final = 0.1
_FIRST_PAUSE: Final = 0.4
_LAST_PAUSE: Final = 30.0

_logger = logging.getLogger("mlaudit")


@dataclass(slots=True)
class SenderCounts:
    """The counters of a sender. Times are seconds since the epoch, 0 for never; ``failing_since`` is 0 on success."""

    acknowledged: int = 0
    requests: int = 0
    failures: int = 0
    quarantined: int = 0
    last_failure: str = ""
    last_acknowledged: float = 0.0
    failing_since: float = 0.0


class Sender:
    """Sends the records in one stream's spool, in order, from its own thread."""

    def __init__(
        self,
        spool: StreamSpool,
        transport: Transport,
        envelope: Envelope,
        on_quarantined: Callable[[int, str], object] = lambda count, reason: None,
        on_export: Callable[[float, str], object] = lambda seconds, error_type: None,
    ) -> None:
        """Takes the spool to send from, and the transport.

        Args:
            spool: the stream's spool.
            transport: the transport to the receiver.
            envelope: the envelope of the records of a request.
            on_quarantined: called with the number of records that the receiver finally rejected, and the reason.
            on_export: called after each request with its duration in seconds and its type of error ("" for none).
        """
        self.counts = SenderCounts()
        self._spool = spool
        self._transport = transport
        self._envelope = envelope
        self._on_quarantined = on_quarantined
        self._on_export = on_export
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._backoff = Backoff(_FIRST_PAUSE, _LAST_PAUSE, jitter=_spread)
        self._asked = 0.0

    def start(self) -> None:
        """Starts the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.run, name="mlaudit-sender", daemon=True)
            self._thread.start()

    def stop(self, deadline: float) -> bool:
        """Continues sending until everything is acknowledged or ``deadline`` (monotonic seconds) has passed.

        Returns whether everything was acknowledged.
        """
        self._deadline = deadline
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()) + 1.0)
        return not self._spool.unacknowledged

    def join(self) -> None:
        """Returns when the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def run(self) -> None:
        """Sends until stopped; the body of the thread."""
        # The service's HTTP instrumentation must not trace the sender's own requests.
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        while not self._over():
            self._spool.wait_for_data(0.1 if self._stopping.is_set() else 1.0)
            if not self._stopping.is_set():
                self._stopping.wait(LINGER_SECONDS)
            try:
                self.drain()
            except Exception as error:  # noqa: BLE001 - a disk that fails here must not end the sending for good
                self._note_failure(Answer(Verdict.RETRY, f"the spool: {error!r}"))
                self._pause()
            if self._stopping.is_set() and not self._spool.unacknowledged:
                break
        self._transport.close()

    def drain(self) -> bool:
        """Sends what is in the spool now; returns whether it is acknowledged, False when the deadline passed.

        Records that arrive meanwhile wait for the next call: under load there are always one or two more, and a
        request for each of those would cost more than all others.
        """
        end = self._spool.synced_sequence
        while True:
            try:
                frames, ack = self._spool.read(BATCH_BYTES)
            except SpoolError as error:
                self._note_failure(Answer(Verdict.RETRY, str(error)))
                return False
            if not frames:
                return True
            if self._send(frames, ack):
                self._backoff.reset()
                if ack.sequence >= end:
                    return True
            elif not self._pause():
                return False

    def _send(self, frames: list[Frame], ack: Ack) -> bool:
        answer = self._post(frames)
        if answer.verdict is Verdict.ACKNOWLEDGED:
            self._acknowledge(ack, len(frames))
            return True
        if answer.verdict is Verdict.DIVIDE and len(frames) > 1:
            return self._divide(frames, ack)
        if answer.verdict is Verdict.UNAUTHENTICATED:
            self._transport.renew()
        self._note_failure(answer)
        return False

    def _divide(self, frames: list[Frame], ack: Ack) -> bool:
        """Finds the records that the receiver rejects and quarantines them.

        Only while it accepts others of the same batch: a receiver that rejects everything has a problem of its own,
        and then every record stays in the spool.
        """
        refused: list[tuple[Frame, str]] = []
        pending = [frames[: len(frames) // 2], frames[len(frames) // 2 :]]
        taken = 0
        while pending:
            part = pending.pop(0)
            answer = self._post(part)
            if answer.verdict is Verdict.ACKNOWLEDGED:
                taken += len(part)
            elif answer.verdict is not Verdict.DIVIDE:
                self._note_failure(answer)
                return False
            elif len(part) == 1:
                refused.append((part[0], answer.reason))
            else:
                pending[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
        if not taken:
            self._note_failure(Answer(Verdict.RETRY, f"every record is rejected: {refused[0][1]}"))
            return False
        # A record must not be quarantined by chance: it is sent once more, alone.
        for frame, reason in tuple(refused):
            answer = self._post([frame])
            if answer.verdict is Verdict.ACKNOWLEDGED:
                taken += 1
                refused.remove((frame, reason))
            elif answer.verdict is not Verdict.DIVIDE:
                self._note_failure(answer)
                return False
        for frame, reason in refused:
            path = self._spool.quarantine(frame, reason)
            _logger.error(
                "audit record %d was rejected (%s) and is quarantined in %s", frame.sequence, reason, path
            )
        self.counts.quarantined += len(refused)
        self._acknowledge(ack, taken)
        if refused:
            self._on_quarantined(len(refused), refused[0][1])
        return True

    def _post(self, frames: list[Frame]) -> Answer:
        self.counts.requests += 1
        request = self._envelope.request(frame.payload for frame in frames)
        begun = time.monotonic()
        answer = self._transport.post(request)
        try:
            self._on_export(time.monotonic() - begun, answer.error_type)
        except Exception:
            _logger.debug("an export could not be measured", exc_info=True)
        return answer

    def _acknowledge(self, ack: Ack, count: int) -> None:
        self._spool.acknowledge(ack)
        self.counts.acknowledged += count
        self.counts.last_acknowledged = time.time()
        self.counts.failing_since = 0.0

    def _note_failure(self, answer: Answer) -> None:
        self.counts.failures += 1
        if answer.reason != self.counts.last_failure:
            _logger.warning("audit records wait in the spool: %s", answer.reason)
        self.counts.last_failure = answer.reason
        self.counts.failing_since = self.counts.failing_since or time.time()
        if answer.retry_after is not None:
            self._backoff.reset()
        self._asked = answer.retry_after or 0.0

    def _pause(self) -> bool:
        """Waits before the next try, at least as long as the receiver asked; False when there is no time for one."""
        wait = self._backoff.pause()
        if self._stopping.is_set():
            wait = min(self._asked + min(wait, 1.0), self._deadline - time.monotonic())
            if wait <= 0:
                return False
            time.sleep(wait)
        else:
            self._stopping.wait(self._asked + wait)
        return not self._over()

    def _over(self) -> bool:
        return self._stopping.is_set() and time.monotonic() >= self._deadline


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 (spreads retries, guards nothing)
