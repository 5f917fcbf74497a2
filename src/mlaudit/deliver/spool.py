"""The durable spool: a record is on disk before the call that made it returns, and stays until acknowledged.

Each writing process has one stream folder of append-only segments (see ``files`` for the format). Plain appends
beat an embedded store here by a factor of three and more; ADR 0003 has the figures.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mlaudit.deliver import files, layout
from mlaudit.deliver.files import Ack, Frame, SegmentFile
from mlaudit.deliver.interface import SAFE, Ticket
from mlaudit.deliver.recent import RecentFrames
from mlaudit.errors import SpoolError, SpoolFullError, SpoolUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT_BYTES: Final = 16 << 20
SYNC_SECONDS: Final = 0.05
_RECENT_BYTES: Final = 4 << 20


class StreamSpool:
    """The spool of one stream, held by this process. Appends are ordered by the caller; the rest is thread-safe."""

    def __init__(self, folder: Path, lock: int, max_bytes: int) -> None:
        """Takes over an empty or left-behind stream folder whose ``lock`` is held."""
        self.folder = folder
        self._lock = lock
        self._max_bytes = max_bytes
        self._mutex = threading.RLock()
        self._state = threading.Condition(self._mutex)
        self._waiting: list[Ticket] = []
        self._dirty = False
        self._closing = False
        self._segment: SegmentFile | None = None
        self._retired: list[SegmentFile] = []
        self._recent = RecentFrames(_RECENT_BYTES)
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._stored_bytes = 0
        self._sync_thread: threading.Thread | None = None
        self._ack_descriptor = files.open_ack(folder)
        self.last_sequence = 0
        self.last_digest = b""
        self.torn_bytes = 0
        self._recover()
        self.acknowledged = files.read_ack(folder) or self._beginning()

    @classmethod
    def create(cls, spool: Path, stream_id: str, max_bytes: int) -> StreamSpool:
        """Makes the folder of a new stream.

        Raises:
            SpoolUnavailableError: the spool folder cannot be made, written or locked.
        """
        folder = layout.stream_folder(spool, stream_id)
        files.make_folder(spool)
        files.make_folder(folder)
        lock = files.take_lock(folder)
        if lock is None:
            raise SpoolUnavailableError(
                f"{folder}: expected a new stream, found one that another process writes"
            )
        try:
            files.sync_folder(spool)
            return cls(folder, lock, max_bytes)
        except OSError as error:
            os.close(lock)
            raise SpoolUnavailableError(
                f"{folder}: expected to make a stream, found {error.strerror}"
            ) from None

    @classmethod
    def adopt(cls, folder: Path, max_bytes: int) -> StreamSpool | None:
        """Takes over the folder of a process that is gone; None when its writer lives or it is gone itself."""
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
        if not layout.lock_file(folder).exists():  # drained and removed by another process meanwhile
            os.close(lock)
            return None
        return cls(folder, lock, max_bytes)

    def append(self, sequence: int, digest: bytes, payload: bytes, *, durable: bool) -> Ticket:
        """Stores one frame behind the last.

        Returns after the operating system has it: a kill -9 of this process loses nothing. Every append is
        synced within 50 ms. With ``durable`` the ticket settles only after fsync.

        Raises:
            SpoolFullError: the configured size is reached. SpoolUnavailableError: the disk refuses. In both
            cases nothing of the frame is stored.
        """
        data = files.frame(sequence, digest, payload)
        ticket = Ticket() if durable else SAFE
        with self._mutex:  # of ``_state``, entered without the condition's own call
            if self._stored_bytes + len(data) > self._max_bytes:
                raise SpoolFullError(
                    f"{self.folder}: expected at most {self._max_bytes} bytes unsent, found {self._stored_bytes}; "
                    f"is the collector reachable? MLAUDIT_SPOOL_MAX_BYTES sets the bound"
                )
            segment = self._segment
            if segment is None or segment.torn or segment.size >= self._segment_bytes:
                segment = self._next_segment(sequence)
            segment.append(data)
            self._recent.add(segment.first_sequence, Frame(sequence, digest, payload, segment.size))
            self._stored_bytes += len(data)
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
        with self._state:
            return (
                not self._closing and self._stored_bytes < self._max_bytes and os.access(self.folder, os.W_OK)
            )

    @property
    def stored_bytes(self) -> int:
        """Bytes in segments that still stand on disk."""
        return self._stored_bytes

    def read(self, max_bytes: int) -> tuple[list[Frame], Ack]:
        """The frames behind the acknowledged position, about ``max_bytes`` of them, and the position after them.

        An empty list means that everything stored is acknowledged.

        Raises:
            SpoolError: a segment cannot be read.
        """
        position = self.acknowledged
        with self._state:
            recent = self._recent.after(position, max_bytes)
        if recent[0]:
            return recent
        while True:
            path = layout.segment_file(self.folder, position.segment)
            end = self._end_of(position.segment)
            found: list[Frame] = []
            if position.offset < end:
                size = min(end - position.offset, max(max_bytes, files.HEADER_BYTES))
                found = list(
                    files.parse_frames(files.read_range(path, position.offset, size), position.offset)
                )
                if not found:  # one frame larger than the batch
                    size = end - position.offset
                    data = files.read_range(path, position.offset, size)
                    found = list(files.parse_frames(data, position.offset))[:1]
            if found:
                return found, Ack(found[-1].sequence, position.segment, found[-1].end)
            following = self._segment_after(position.segment)
            if following is None:
                return [], position
            if position.offset < end:
                self._set_aside_damage(path, position.offset, end)
            position = Ack(position.sequence, following, 0)

    def acknowledge(self, ack: Ack) -> None:
        """Notes that everything up to ``ack`` is acknowledged, and removes segments that are no longer needed.

        The newest segment with a frame in it stays: its last frame is the head of the chain, which whoever
        continues or closes the stream has to know.
        """
        files.write_ack(self._ack_descriptor, ack)
        previous, self.acknowledged = self.acknowledged, ack
        with self._state:
            self._recent.forget(ack.sequence)
        if previous.segment != ack.segment:
            with self._state:
                for path in layout.segments(self.folder):
                    if layout.first_sequence(path) < ack.segment:
                        self._stored_bytes -= path.stat().st_size
                        path.unlink()

    @property
    def unacknowledged(self) -> bool:
        """Whether a stored frame is not acknowledged yet."""
        with self._state:
            return self.last_sequence > self.acknowledged.sequence

    def set_aside(self, frame: Frame, reason: str) -> Path:
        """Keeps a frame that no receiver takes for a person to look at, and returns where."""
        folder = layout.quarantine_folder(self.folder)
        files.make_folder(folder)
        path = folder / f"{frame.sequence:020d}.otlp"
        files.replace_file(path, frame.payload)
        files.replace_file(path.with_suffix(".reason"), reason.encode())
        return path

    def wait_for_data(self, timeout: float) -> None:
        """Returns when there is something unacknowledged, on closing, or after ``timeout`` seconds."""
        with self._state:
            if not self._closing and self.last_sequence <= self.acknowledged.sequence:
                self._state.wait(timeout)

    def sync(self) -> bool:
        """Returns only after fsync; whether the disk confirmed. One caller at a time."""
        with self._state:
            current = self._segment
            retired, self._retired = self._retired, []
            waiting, self._waiting = self._waiting, []
            self._dirty = False
        ok = True
        for segment in [*retired, *([current] if current is not None else [])]:
            try:
                segment.sync()
            except SpoolUnavailableError:
                ok = False
                segment.torn = True  # the kernel may have dropped the pages: do not build on them
        for segment in retired:
            segment.close()
        for ticket in waiting:
            ticket.settle(ok)
        return ok

    def close(self, *, remove: bool) -> None:
        """Syncs and lets go of the folder; with ``remove`` deletes it, unless something was set aside."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        if self._sync_thread is not None and self._sync_thread is not threading.current_thread():
            self._sync_thread.join()
        self.sync()
        with self._state:
            if self._segment is not None:
                self._segment.close()
                self._segment = None
        if remove and not layout.quarantine_folder(self.folder).exists():
            for path in [
                *layout.segments(self.folder),
                layout.ack_file(self.folder),
                layout.status_file(self.folder),
                layout.lock_file(self.folder),
            ]:
                path.unlink(missing_ok=True)
            with suppress(OSError):  # another process may just have looked for the lock
                self.folder.rmdir()
        os.close(self._ack_descriptor)
        os.close(self._lock)

    def forget(self) -> None:
        """In a forked child: lets go of the parent's descriptors without touching its files."""
        for descriptor in (self._ack_descriptor, self._lock):
            os.close(descriptor)
        if self._segment is not None:
            self._segment.close()

    def _recover(self) -> None:
        for path in layout.segments(self.folder):
            frames, rest = files.read_frames(path)
            self._stored_bytes += path.stat().st_size
            self.torn_bytes += rest
            if frames:
                self.last_sequence, self.last_digest = frames[-1].sequence, frames[-1].digest

    def _beginning(self) -> Ack:
        paths = layout.segments(self.folder)
        return Ack(0, layout.first_sequence(paths[0]) if paths else 1, 0)

    def _next_segment(self, sequence: int) -> SegmentFile:
        if self._segment is not None:
            self._retired.append(self._segment)
            self._segment = None
        self._segment = SegmentFile(layout.segment_file(self.folder, sequence))
        return self._segment

    def _end_of(self, segment: int) -> int:
        with self._state:
            current = self._segment
            if current is not None and current.first_sequence == segment:
                return current.size
        try:
            return layout.segment_file(self.folder, segment).stat().st_size
        except OSError:
            return 0

    def _segment_after(self, segment: int) -> int | None:
        later = [
            first for path in layout.segments(self.folder) if (first := layout.first_sequence(path)) > segment
        ]
        return later[0] if later else None

    def _set_aside_damage(self, segment: Path, start: int, end: int) -> None:
        """Keeps what cannot be read of a segment; a write that a crash cut short is not worth keeping."""
        data = files.read_range(segment, start, end - start)
        if not files.cut_short(data):
            folder = layout.quarantine_folder(self.folder)
            files.make_folder(folder)
            files.replace_file(folder / f"{segment.stem}-{start}.damaged", data)

    def _start_sync_thread(self) -> None:
        self._sync_thread = threading.Thread(target=self._sync_loop, name="mlaudit-sync", daemon=True)
        self._sync_thread.start()

    def _sync_loop(self) -> None:
        last = 0.0
        while True:
            with self._state:
                while not (self._dirty or self._closing):
                    self._state.wait()
                if not self._waiting and not self._closing:
                    # Only buffered records: let them gather, but no longer than promised.
                    self._state.wait(max(0.0, SYNC_SECONDS - (time.monotonic() - last)))
                if self._closing and not self._dirty:
                    return
            last = time.monotonic()
            self.sync()


def read_spool(spool: Path) -> list[Path]:
    """The stream folders of a spool, oldest first.

    Raises:
        SpoolError: there is no such folder.
    """
    if not spool.is_dir():
        raise SpoolError(f"{spool}: expected a spool folder, found none; MLAUDIT_SPOOL_DIR names it")
    return layout.streams(spool)
