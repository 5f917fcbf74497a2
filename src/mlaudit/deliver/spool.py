"""The durable spool: a record is on disk before the call that made it returns, and stays until acknowledged.

Each writing process has one stream folder of append-only segments (see ``frames`` for the format). Plain appends
beat an embedded store here by a factor of three and more; ADR 0003 has the figures.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mlaudit.deliver import files, layout, quarantine
from mlaudit.deliver.confirm import Confirmation
from mlaudit.deliver.files import Ack, SegmentFile
from mlaudit.deliver.frames import Frame, frame
from mlaudit.deliver.interface import SAFE, Ticket
from mlaudit.deliver.recent import RecentFrames
from mlaudit.deliver.recovery import Recovered, recover
from mlaudit.deliver.unsent import UnsentFrames
from mlaudit.errors import DiskFullError, MlauditError, SpoolError, SpoolFullError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlaudit.deliver.retained import Retention

SEGMENT_BYTES: Final = 16 << 20
SYNC_SECONDS: Final = 0.05
_RECENT_BYTES: Final = 4 << 20
_ROOM_BYTES: Final = 1 << 20
_CLOSED: Final = -1

_logger = logging.getLogger("mlaudit")


class StreamSpool:
    """The spool of one stream, held by this process. Appends are ordered by the caller; the rest is thread-safe.

    Attributes:
        restarted: whether the machine has been restarted since the stream was made.
        adopted_head: payload of the last frame that could be read when the stream was adopted.
        torn_bytes: bytes of writes that a crash had cut short when the stream was adopted.
        damage: what could not be read when the stream was adopted.
        on_damage: told, with a count and a reason, of records that are lost in the spool later on.
    """

    def __init__(
        self, folder: Path, lock: int, max_bytes: int, retention: Retention | None, found: Recovered
    ) -> None:
        """Takes over a stream folder whose ``lock`` is held; ``found`` says what is in it."""
        self.folder = folder
        self.acknowledged = found.acknowledged
        self.last_sequence = found.last_sequence
        self.last_digest = found.last_digest
        self.adopted_head = found.last_payload
        self.torn_bytes = found.torn_bytes
        self.damage = found.damage
        self.restarted = False
        self.on_damage: Callable[[int, str], object] = lambda count, reason: None
        self._lock = lock
        self._max_bytes = max_bytes
        self._retention = retention
        self._mutex = threading.RLock()
        self._state = threading.Condition(self._mutex)  # something is to be synced
        self._news = threading.Condition(self._mutex)  # something was synced
        self._waiting: list[Ticket] = []
        self._dirty = False
        self._closing = False
        self._segment: SegmentFile | None = None
        self._sizes = found.sizes  # of all segments but the one that is appended to
        self._recent = RecentFrames(_RECENT_BYTES)
        self._confirmation = Confirmation(
            self._mutex, self._recent, self._sizes, self._make_room, found.last_sequence
        )
        self._unsent = UnsentFrames(folder)
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._unsent_bytes = 0
        self._count_unsent()
        self._sync_thread: threading.Thread | None = None
        self._syncing = threading.Lock()
        self._noted = True
        self._ack_descriptor = files.open_ack(folder)

    @classmethod
    def create(
        cls, spool: Path, stream_id: str, max_bytes: int, retention: Retention | None = None
    ) -> StreamSpool:
        """Makes the folder of a new stream.

        Raises:
            SpoolUnavailableError: the spool folder cannot be made, written or locked.
        """
        folder = layout.stream_folder(spool, stream_id)
        files.make_folder(folder)
        lock = files.take_lock(folder)
        if lock is None:
            raise SpoolUnavailableError(
                f"{folder}: expected a new stream, found one that another process writes"
            )
        try:
            files.note_boot(lock)
            return cls(folder, lock, max_bytes, retention, Recovered(Ack(0, 1, 0)))
        except OSError as error:
            os.close(lock)
            raise files.unavailable(error, f"{folder}: expected to make a stream") from None

    @classmethod
    def adopt(cls, folder: Path, max_bytes: int, retention: Retention | None = None) -> StreamSpool | None:
        """Takes over the folder of a process that is gone; None when its writer lives or it is gone itself.

        Raises:
            SpoolError, OSError: the disk refuses for the moment.
        """
        if not folder.is_dir():
            return None
        try:
            lock = files.take_lock(folder)
        except SpoolUnavailableError:
            if not folder.exists():
                return None
            raise
        if lock is None:
            return None
        try:
            spool = cls(folder, lock, max_bytes, retention, recover(folder))
        except BaseException:
            os.close(lock)
            raise
        noted = files.noted_boot(lock)
        spool.restarted = bool(noted) and noted != files.boot_id()
        return spool

    def append(self, sequence: int, digest: bytes, payload: bytes, *, durable: bool) -> Ticket:
        """Stores one frame behind the last.

        Returns after the operating system has it: a kill -9 of this process loses nothing. Every append is
        synced within 50 ms. With ``durable`` the ticket settles only after fsync.

        Raises:
            SpoolFullError: the configured size is reached. SpoolUnavailableError: the disk refuses. In both
            cases nothing of the frame is stored.
        """
        data = frame(sequence, digest, payload)
        ticket = Ticket() if durable else SAFE
        with self._mutex:  # of ``_state``, entered without the condition's own call
            if self._unsent_bytes + len(data) > self._max_bytes:
                raise self._full()
            try:
                segment = self._segment
                if segment is None or segment.torn or segment.size >= self._segment_bytes:
                    segment = self._next_segment(sequence)
                segment.append(data)
            except DiskFullError:
                if not self._make_room(len(data)):
                    raise
                segment = self._segment
                if segment is None or segment.torn:
                    segment = self._next_segment(sequence)
                segment.append(data)
            self._recent.add(segment.first_sequence, Frame(sequence, digest, payload, segment.size))
            self._unsent_bytes += len(data)
            self.last_sequence = sequence
            self.last_digest = digest
            if durable:
                self._waiting.append(ticket)
            if not self._dirty or durable:
                self._dirty = True
                if self._sync_thread is None:
                    self._start_sync_thread()
                self._state.notify_all()
        return ticket

    def writable(self) -> bool:
        """Whether a record of usual size would be taken now, as far as one can know without writing."""
        with self._mutex:
            if self._unsent_bytes >= self._max_bytes or not os.access(self.folder, os.W_OK):
                return False
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= _ROOM_BYTES or self._retention is not None

    @property
    def stored_bytes(self) -> int:
        """Bytes in segments of this stream that stand on disk, retained ones aside."""
        with self._mutex:
            return sum(self._sizes.values()) + (self._segment.size if self._segment is not None else 0)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that are not acknowledged; these are what ``max_bytes`` bounds."""
        return self._unsent_bytes

    @property
    def synced_sequence(self) -> int:
        """Everything up to here survives a power failure, and may be sent."""
        return self._confirmation.through

    @property
    def unacknowledged(self) -> bool:
        """Whether a stored frame is not acknowledged yet."""
        with self._mutex:
            return self.last_sequence > self.acknowledged.sequence

    def read(self, max_bytes: int) -> tuple[list[Frame], Ack]:
        """Synced frames behind the acknowledged position, about ``max_bytes`` of them, and the position after them.

        Only what an fsync covers is given out: otherwise a power failure could leave the receiver with records
        that the spool has lost, and the stream would go on with others under the same sequences. An empty list
        means that everything synced is acknowledged. What cannot be read is set aside and passed over.

        Raises:
            SpoolError: a segment cannot be read for the moment.
        """
        position = self.acknowledged
        with self._mutex:
            through = self.synced_sequence
            recent = self._recent.after(position, max_bytes, through)
        if recent[0]:
            return recent
        while position.sequence < through:
            with self._mutex:
                end = self._end_of(position.segment)
                following = min((first for first in self._firsts() if first > position.segment), default=0)
            found = self._unsent.read(position, end, max_bytes, through, following or through + 1)
            self._settle_damage(position.segment)
            if found:
                return found, Ack(found[-1].sequence, position.segment, found[-1].end)
            if not following:
                break
            position = Ack(position.sequence, following, 0)
        return [], position

    def acknowledge(self, ack: Ack) -> None:
        """Notes that everything up to ``ack`` is acknowledged, and lets go of segments that are no longer needed.

        The newest segment with a frame in it stays: its last frame is the head of the chain, which whoever
        continues or closes the stream has to know.
        """
        try:
            files.write_ack(self._ack_descriptor, ack)
            self._noted = True
        except OSError as error:  # the older note only means that a later process sends some of it again
            self._noted = False
            _logger.warning("%s: the acknowledgement could not be noted yet: %s", self.folder, error)
        with self._mutex:
            self.acknowledged = ack
            self._recent.forget(ack.sequence)
            gone = [first for first in self._sizes if first < ack.segment]
            for first in gone:
                del self._sizes[first]
            self._count_unsent()
        for first in sorted(gone):
            self._let_go_of(layout.segment_file(self.folder, first))

    def set_aside(self, frame: Frame, reason: str) -> Path:
        """Keeps a frame that no receiver takes for a person to look at, and returns where."""
        try:
            return quarantine.keep_frame(self.folder, frame, reason)
        except OSError as error:
            if not files.is_full(error) or not self._make_room(len(frame.payload)):
                raise
            return quarantine.keep_frame(self.folder, frame, reason)

    def wait_for_data(self, timeout: float) -> None:
        """Returns when there is something to send, on closing, or after ``timeout`` seconds."""
        with self._news:
            self._news.wait_for(
                lambda: self._closing or self.synced_sequence > self.acknowledged.sequence, timeout
            )

    def sync(self) -> bool:
        """Returns only after fsync; whether the disk confirmed.

        A segment that the disk does not confirm is written anew elsewhere (see ``confirm``). Where that fails
        too, durable tickets settle as broken, and the frames are tried again until they are safe.
        """
        with self._syncing:
            with self._mutex:
                last = self.last_sequence
                current = self._segment
                size = 0 if current is None else current.size
                waiting, self._waiting = self._waiting, []
                self._dirty = False
            # In the order of the chain: a power failure in between may cost its end, but leaves no hole.
            ok = self._confirmation.finish_retired()
            if current is not None and not self._confirmation.sync(current, size):
                with self._mutex:
                    if current is self._segment:
                        self._retire(self.last_sequence)
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
        """Syncs and lets go of the folder; idempotent.

        With ``remove`` a stream that is wholly acknowledged goes: its segments are retained, and its folder stays
        only if something in it was set aside.
        """
        with self._mutex:
            if self._lock == _CLOSED:
                return
            self._closing = True
            self._max_bytes = _CLOSED
            self._state.notify_all()
            self._news.notify_all()
        if self._sync_thread is not None and self._sync_thread is not threading.current_thread():
            self._sync_thread.join()
        self.sync()
        with self._mutex:
            if self._segment is not None:
                self._retire(self.last_sequence)
            self._confirmation.close()
        if not self._noted:
            with suppress(OSError):
                files.write_ack(self._ack_descriptor, self.acknowledged)
        if remove and not self.unacknowledged:
            for path in layout.segments(self.folder):
                self._let_go_of(path)
            files.remove_stream(self.folder)
        self._let_go()

    def forget(self) -> None:
        """In a forked child: lets go of the parent's descriptors without touching its files."""
        if self._segment is not None:
            self._segment.close()
        self._confirmation.close()
        self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, _CLOSED
        if lock != _CLOSED:
            os.close(self._ack_descriptor)
            os.close(lock)

    def _full(self) -> SpoolError:
        if self._closing:
            return SpoolUnavailableError(f"{self.folder}: expected an open spool, found one that was closed")
        return SpoolFullError(
            f"{self.folder}: expected at most {self._max_bytes} bytes unsent, found {self._unsent_bytes}; "
            f"is the collector reachable? MLAUDIT_SPOOL_MAX_BYTES sets the bound"
        )

    def _make_room(self, size: int) -> bool:
        """On a full disk: gives up delivered segments for what is not delivered."""
        return self._retention is not None and self._retention.give_up(size + _ROOM_BYTES)

    def _next_segment(self, sequence: int) -> SegmentFile:
        if self._segment is not None:
            self._retire(sequence - 1)
        self._segment = SegmentFile(layout.segment_file(self.folder, sequence))
        return self._segment

    def _retire(self, last_sequence: int) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        segment.last_sequence = last_sequence
        if segment.size:
            self._sizes[segment.first_sequence] = segment.size
            self._confirmation.retire(segment)
        else:
            segment.close()

    def _firsts(self) -> list[int]:
        own = [] if self._segment is None else [self._segment.first_sequence]
        return [*self._sizes, *own]

    def _end_of(self, first: int) -> int:
        """How far the segment may be read."""
        current = self._segment
        if current is not None and current.first_sequence == first:
            return current.synced
        return self._confirmation.synced_bytes(first, self._sizes.get(first, 0))

    def _count_unsent(self) -> None:
        ack = self.acknowledged
        current = self._segment
        sizes = self._sizes | ({} if current is None else {current.first_sequence: current.size})
        behind = sum(size for first, size in sizes.items() if first > ack.segment)
        self._unsent_bytes = behind + max(0, sizes.get(ack.segment, 0) - ack.offset)

    def _settle_damage(self, segment: int) -> None:
        """Tells of what reading came upon, and takes a segment that was moved away out of the books."""
        damage, moved = self._unsent.take_damage()
        if moved:
            with self._mutex:
                if self._segment is not None and self._segment.first_sequence == segment:
                    self._retire(self.last_sequence)
                self._sizes.pop(segment, None)
                self._count_unsent()
        for count, reason in damage:
            self.on_damage(count, reason)

    def _let_go_of(self, path: Path) -> None:
        try:
            if self._retention is not None:
                self._retention.take(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            _logger.warning("%s: delivered, and cannot be removed: %s", path, error)

    def _start_sync_thread(self) -> None:
        self._sync_thread = threading.Thread(target=self._sync_loop, name="mlaudit-sync", daemon=True)
        self._sync_thread.start()

    def _sync_loop(self) -> None:
        last = 0.0
        while True:
            with self._state:
                while not (self._dirty or self._closing):
                    if not self._state.wait(self._confirmation.next_try) and self._confirmation.doubtful:
                        break
                if not self._waiting and not self._closing:
                    # Only buffered records: let them gather, but no longer than promised.
                    self._state.wait(max(0.0, SYNC_SECONDS - (time.monotonic() - last)))
                if self._closing and not self._dirty:
                    return
            last = time.monotonic()
            try:
                self.sync()
            except (MlauditError, OSError):
                _logger.exception("%s: syncing failed", self.folder)


def read_spool(spool: Path) -> list[Path]:
    """The stream folders of a spool, oldest first.

    Raises:
        SpoolError: there is no such folder.
    """
    if not spool.is_dir():
        raise SpoolError(f"{spool}: expected a spool folder, found none; MLAUDIT_SPOOL_DIR names it")
    return layout.streams(spool)
