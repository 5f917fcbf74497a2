"""The durable spool: a record is on disk before the call that created it returns, and stays until acknowledged.

Each writing process has one stream folder of append-only segments (see ``frames`` for the format). Plain appends are
at least three times as fast as an embedded store; ADR 0003 has the figures.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mlaudit.deliver.spool import files, layout, lock, quarantine
from mlaudit.deliver.spool.confirm import Confirmation
from mlaudit.deliver.spool.files import Ack
from mlaudit.deliver.spool.frames import Frame, frame
from mlaudit.deliver.spool.recent import RecentFrames
from mlaudit.deliver.spool.recovery import Recovered, recover
from mlaudit.deliver.spool.segments import Segments
from mlaudit.deliver.spool.syncing import SyncThread
from mlaudit.deliver.spool.unsent import UnsentFrames
from mlaudit.deliver.ticket import SAFE, Ticket
from mlaudit.errors import DiskFullError, SpoolError, SpoolFullError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlaudit.deliver.spool.retained import Retention

SEGMENT_BYTES: Final = 16 << 20
_RECENT_BYTES: Final = 4 << 20
_ROOM_BYTES: Final = 1 << 20
_CLOSED: Final = -1

_logger = logging.getLogger("mlaudit")


class StreamSpool:
    """The spool of one stream, locked by this process. The caller serializes appends; the rest is thread-safe.

    Attributes:
        restarted: whether the machine has been restarted since the stream was made.
        adopted_head: payload of the last readable frame when the stream was adopted.
        torn_bytes: bytes of writes that a crash had cut short when the stream was adopted.
        damage: what was unreadable when the stream was adopted.
        on_damage: called with a count and a reason when records are lost in the spool later.
    """

    def __init__(
        self, folder: Path, held: int, max_bytes: int, retention: Retention | None, found: Recovered
    ) -> None:
        """Takes over a stream folder whose lock is ``held``; ``found`` says what is in it."""
        self.folder = folder
        self.acknowledged = found.acknowledged
        self.last_sequence = found.last_sequence
        self.last_digest = found.last_digest
        self.adopted_head = found.last_payload
        self.torn_bytes = found.torn_bytes
        self.damage = found.damage
        self.restarted = False
        self.on_damage: Callable[[int, str], object] = lambda count, reason: None
        self._lock = held
        self._max_bytes = max_bytes
        self._closing = False
        self._mutex = threading.RLock()
        self._state = threading.Condition(self._mutex)  # something is to be synced
        self._news = threading.Condition(self._mutex)  # something was synced
        self._waiting: list[Ticket] = []
        self._recent = RecentFrames(_RECENT_BYTES)
        self._segments = Segments(folder, found.sizes, retention, min(SEGMENT_BYTES, max_bytes // 8))
        self._segments.count_unsent(found.acknowledged)
        self._confirmation = Confirmation(
            self._mutex, self._recent, found.sizes, self._segments.make_room, found.last_sequence
        )
        self._unsent = UnsentFrames(folder)
        self._sync_thread = SyncThread(self._state, self.sync, lambda: self._confirmation.doubtful)
        self._syncing = threading.Lock()
        self._noted = True
        self._ack_descriptor = files.open_ack(folder)

    @classmethod
    def create(
        cls, spool: Path, stream_id: str, max_bytes: int, retention: Retention | None = None
    ) -> StreamSpool:
        """Creates the folder of a new stream.

        Raises:
            SpoolUnavailableError: the spool folder cannot be created, written or locked.
        """
        folder = layout.stream_folder(spool, stream_id)
        files.make_folder(folder)
        held = lock.take_lock(folder)
        if held is None:
            raise SpoolUnavailableError(
                f"{folder}: expected a new stream, found one that another process writes"
            )
        try:
            lock.note_boot(held)
            return cls(folder, held, max_bytes, retention, Recovered(Ack(0, 1, 0)))
        except OSError as error:
            os.close(held)
            raise files.unavailable(error, f"{folder}: expected to make a stream") from None

    @classmethod
    def adopt(cls, folder: Path, max_bytes: int, retention: Retention | None = None) -> StreamSpool | None:
        """Adopts the folder of a process that has ended; None when its writer is alive or the folder is removed.

        Raises:
            SpoolError, OSError: the disk fails at the moment.
        """
        if not folder.is_dir():
            return None
        try:
            held = lock.take_lock(folder)
        except SpoolUnavailableError:
            if not folder.exists():
                return None
            raise
        if held is None:
            return None
        try:
            spool = cls(folder, held, max_bytes, retention, recover(folder))
        except BaseException:
            os.close(held)
            raise
        noted = lock.noted_boot(held)
        spool.restarted = bool(noted) and noted != lock.boot_id()
        return spool

    def append(self, sequence: int, digest: bytes, payload: bytes, *, durable: bool) -> Ticket:
        """Stores one frame after the last.

        Returns after the operating system has it: a kill -9 of this process loses nothing. Every append is
        synced within 50 ms. With ``durable`` the ticket settles only after fsync.

        Raises:
            SpoolFullError: the configured size is reached. SpoolUnavailableError: the disk fails. In both cases no
            part of the frame is stored.
        """
        data = frame(sequence, digest, payload)
        ticket = Ticket() if durable else SAFE
        with self._mutex:  # of ``_state``, entered without the condition's own call
            segments = self._segments
            if segments.unsent + len(data) > self._max_bytes:
                raise self._full()
            try:
                segment = segments.ready(sequence, self._confirmation)
                segment.append(data)
            except DiskFullError:
                if not segments.make_room(len(data) + _ROOM_BYTES):
                    raise
                segment = segments.ready(sequence, self._confirmation)
                segment.append(data)
            self._recent.add(segment.first_sequence, Frame(sequence, digest, payload, segment.size))
            segments.unsent += len(data)
            self.last_sequence = sequence
            self.last_digest = digest
            if durable:
                self._waiting.append(ticket)
            if durable or not self._sync_thread.dirty:
                self._sync_thread.dirty = True
                self._sync_thread.urgent = durable or self._sync_thread.urgent
                self._sync_thread.start()
                self._state.notify_all()
        return ticket

    def writable(self) -> bool:
        """Whether a record of usual size would be stored now, as far as this can be known without writing."""
        with self._mutex:
            if self._segments.unsent >= self._max_bytes or not os.access(self.folder, os.W_OK):
                return False
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= _ROOM_BYTES // 16 or self._segments.retains

    @property
    def stored_bytes(self) -> int:
        """Bytes of this stream's segments on disk, without retained ones."""
        with self._mutex:
            return self._segments.stored

    @property
    def unsent_bytes(self) -> int:
        """Bytes that are not acknowledged; ``max_bytes`` limits them."""
        return self._segments.unsent

    @property
    def synced_sequence(self) -> int:
        """The sequence up to which everything survives a power failure, and may be sent."""
        return self._confirmation.through

    @property
    def unacknowledged(self) -> bool:
        """Whether a stored frame is not acknowledged yet."""
        with self._mutex:
            return self.last_sequence > self.acknowledged.sequence

    def read(self, max_bytes: int) -> tuple[list[Frame], Ack]:
        """Synced frames after the acknowledged position, about ``max_bytes`` of them, and the position after them.

        Only frames that an fsync covers are returned: otherwise a power failure could leave the receiver with records
        that the spool has lost, and the stream would continue with other records under the same sequences. An empty
        list means that everything synced is acknowledged. Unreadable parts are quarantined and skipped.

        Raises:
            SpoolError: a segment cannot be read at the moment.
        """
        position = self.acknowledged
        with self._mutex:
            through = self.synced_sequence
            recent = self._recent.after(position, max_bytes, through)
        if recent[0]:
            return recent
        while position.sequence < through:
            with self._mutex:
                end = self._segments.end_of(position.segment, self._confirmation)
                following = self._segments.after(position.segment)
            found = self._unsent.read(position, end, max_bytes, through, following or through + 1)
            self._settle_damage(position.segment)
            if found:
                return found, Ack(found[-1].sequence, position.segment, found[-1].end)
            if not following:
                break
            position = Ack(position.sequence, following, 0)
        return [], position

    def acknowledge(self, ack: Ack) -> None:
        """Notes that everything up to ``ack`` is acknowledged, and removes segments that are no longer needed.

        The newest segment with a frame in it stays: its last frame is the head of the chain, which is needed to
        continue or close the stream.
        """
        try:
            files.write_ack(self._ack_descriptor, ack)
            self._noted = True
        except (
            OSError
        ) as error:  # the older position only means that a later process sends some records again
            self._noted = False
            _logger.warning("%s: the acknowledgement could not be noted yet: %s", self.folder, error)
        with self._mutex:
            self.acknowledged = ack
            self._recent.forget(ack.sequence)
            gone = self._segments.acknowledged(ack)
        for path in gone:
            self._segments.take_away(path)

    def quarantine(self, frame: Frame, reason: str) -> Path:
        """Quarantines a rejected frame for manual inspection, and returns its path."""
        try:
            return quarantine.keep_frame(self.folder, frame, reason)
        except OSError as error:
            if not files.is_full(error) or not self._segments.make_room(len(frame.payload) + _ROOM_BYTES):
                raise
            return quarantine.keep_frame(self.folder, frame, reason)

    def wait_for_data(self, timeout: float) -> None:
        """Returns when there is something to send, on closing, or after ``timeout`` seconds."""
        with self._news:
            self._news.wait_for(
                lambda: self._closing or self.synced_sequence > self.acknowledged.sequence, timeout
            )

    def sync(self) -> bool:
        """Returns only after fsync: whether the disk confirmed.

        A segment that the disk does not confirm is rewritten to a new file (see ``confirm``). When that fails too,
        durable tickets settle as failed, and the rewrite is retried until the frames are safe.
        """
        with self._syncing:
            with self._mutex:
                last = self.last_sequence
                current = self._segments.current
                size = 0 if current is None else current.size
                waiting, self._waiting = self._waiting, []
                self._sync_thread.dirty = self._sync_thread.urgent = False
            # In the order of the chain: a power failure in between may cut its end off, but leaves no gap.
            ok = self._confirmation.finish_retired()
            if current is not None and not self._confirmation.sync(current, size):
                with self._mutex:
                    if current is self._segments.current:
                        self._segments.retire(self.last_sequence, self._confirmation)
                ok = self._confirmation.write_again(current) and ok
            with self._mutex:
                self._confirmation.advance(last)
                self._news.notify_all()
            for count, reason in self._confirmation.take_losses():
                self.on_damage(count, reason)
            for ticket in waiting:
                ticket.settle(ok)
        return ok

    def close(self, *, remove: bool) -> None:
        """Syncs and releases the folder; idempotent.

        With ``remove`` a wholly acknowledged stream is removed: its segments are retained, and its folder stays only
        if it contains quarantined records.
        """
        with self._mutex:
            if self._lock == _CLOSED:
                return
            self._closing = self._sync_thread.stopping = True
            self._max_bytes = _CLOSED
            self._state.notify_all()
            self._news.notify_all()
        self._sync_thread.join()
        self.sync()
        with self._mutex:
            self._segments.retire(self.last_sequence, self._confirmation)
            self._confirmation.close()
        if not self._noted:
            with suppress(OSError):
                files.write_ack(self._ack_descriptor, self.acknowledged)
        if remove and not self.unacknowledged:
            for path in layout.segments(self.folder):
                self._segments.take_away(path)
            files.remove_stream(self.folder)
        self._release()

    def forget(self) -> None:
        """In a forked child: closes the parent's descriptors without touching its files."""
        if self._segments.current is not None:
            self._segments.current.close()
        self._confirmation.close()
        self._release()

    def _release(self) -> None:
        held, self._lock = self._lock, _CLOSED
        if held != _CLOSED:
            os.close(self._ack_descriptor)
            os.close(held)

    def _full(self) -> SpoolError:
        if self._closing:
            return SpoolUnavailableError(f"{self.folder}: expected an open spool, found one that was closed")
        return SpoolFullError(
            f"{self.folder}: expected at most {self._max_bytes} bytes unsent, found {self._segments.unsent}; "
            f"is the collector reachable? MLAUDIT_SPOOL_MAX_BYTES sets the limit"
        )

    def _settle_damage(self, segment: int) -> None:
        """Reports the damage that reading found, and removes a segment that was moved from the index."""
        damage, moved = self._unsent.take_damage()
        if moved:
            with self._mutex:
                current = self._segments.current
                if current is not None and current.first_sequence == segment:
                    self._segments.retire(self.last_sequence, self._confirmation)
                self._segments.sizes.pop(segment, None)
                self._segments.count_unsent(self.acknowledged)
        for count, reason in damage:
            self.on_damage(count, reason)


def read_spool(spool: Path) -> list[Path]:
    """The stream folders of a spool, oldest first.

    Raises:
        SpoolError: the folder does not exist.
    """
    if not spool.is_dir():
        raise SpoolError(f"{spool}: expected a spool folder, found none; MLAUDIT_SPOOL_DIR names it")
    return layout.streams(spool)
