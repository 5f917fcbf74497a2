"""Combines spool and sender of one stream for the pipeline."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlaudit.deliver.send.sender import Sender
    from mlaudit.deliver.spool.spool import StreamSpool
    from mlaudit.deliver.ticket import Ticket


class SpooledDelivery:
    """Spool and sender of one stream; see ``ticket.Delivery``."""

    def __init__(self, spool: StreamSpool, sender: Sender) -> None:
        self.spool = spool
        self.sender = sender
        self.closed = False
        self._started = False

    def append(self, sequence: int, digest: bytes, payload: bytes, *, durable: bool) -> Ticket:
        """Stores one frame; see ``StreamSpool.append``."""
        ticket = self.spool.append(sequence, digest, payload, durable=durable)
        if not self._started:
            self._started = True
            self.sender.start()
        return ticket

    def writable(self) -> bool:
        """Whether the spool would store a record now."""
        return self.spool.writable()

    def finish(self, deadline: float, *, keep: bool = False) -> bool:
        """Sends the remaining frames until ``deadline`` and closes; a wholly acknowledged stream is removed.

        With ``keep`` it stays, so that the process that adopts it can end it.
        """
        done = self.sender.stop(deadline)
        if self.sender.running:
            # The sender still waits for an answer and then uses the spool: its descriptors stay open until then.
            self.spool.sync()
            threading.Thread(
                target=self._close_later, args=(keep,), name="mlaudit-closer", daemon=True
            ).start()
        else:
            self.spool.close(remove=not keep)
        self.closed = True
        return done

    def _close_later(self, keep: bool) -> None:
        self.sender.join()
        self.spool.close(remove=not keep)

    def forget(self) -> None:
        """In a forked child: leaves the parent's stream to the parent."""
        self.spool.forget()
