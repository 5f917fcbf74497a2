"""Tracks how far the disk has confirmed, and rewrites frames that it does not confirm.

After a failed fsync the kernel marks the pages as clean, so a second fsync proves nothing about them. The unconfirmed
frames are therefore rewritten to a new file, from memory or from the readable part of the old file. They are safe
only when that file is confirmed; until then no later frame is sent.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.frames import frame, parse_frames
from mlaudit.errors import SpoolError, SpoolUnavailableError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from mlaudit.deliver.spool.frames import Frame
    from mlaudit.deliver.spool.recent import RecentFrames
    from mlaudit.deliver.spool.segment_file import SegmentFile

_RETRY_SECONDS: Final = 1.0
_logger = logging.getLogger("mlaudit")


class Confirmation:
    """The segments that receive no more frames but are not confirmed yet.

    ``sync``, ``write_again`` and ``finish_retired`` are for one thread at a time; the other methods are called with
    the spool's ``lock`` held.

    Args:
        lock: of the spool. recent: its frames in memory.
        sizes: bytes of each segment by first sequence, updated here.
        make_room: frees this number of bytes on a full disk; False when it cannot.
        through: everything up to this sequence is confirmed.
    """

    def __init__(
        self,
        lock: threading.RLock,
        recent: RecentFrames,
        sizes: dict[int, int],
        make_room: Callable[[int], bool],
        through: int,
    ) -> None:
        self.through = through
        self._lock = lock
        self._recent = recent
        self._sizes = sizes
        self._make_room = make_room
        self._retired: dict[int, SegmentFile] = {}
        self._doubts: dict[
            int, tuple[int, float]
        ] = {}  # first unconfirmed sequence, time of the next attempt
        self._losses: list[tuple[int, str]] = []

    @property
    def doubtful(self) -> bool:
        """Whether there are unconfirmed frames that have to be rewritten."""
        return bool(self._doubts)

    def retire(self, segment: SegmentFile) -> None:
        """Takes over a segment that receives no more frames."""
        self._retired[segment.first_sequence] = segment

    def synced_bytes(self, first: int, size: int) -> int:
        """The confirmed bytes of a segment; ``size`` for a segment that is not tracked here."""
        segment = self._retired.get(first)
        return size if segment is None else segment.synced

    def sync(self, segment: SegmentFile, size: int) -> bool:
        """Returns only after an fsync of the first ``size`` bytes; False when the disk does not confirm it."""
        if segment.synced >= size:
            return True
        try:
            segment.sync(size)
        except SpoolUnavailableError as error:
            _logger.error("%s; its unconfirmed records are rewritten", error)
            segment.torn = True
            self._doubts[segment.first_sequence] = (max(segment.first_sequence, self.through + 1), 0.0)
            return False
        return True

    def finish_retired(self) -> bool:
        """Confirms the retired segments, and retries the unconfirmed ones.

        Returns whether everything is confirmed except segments that were unconfirmed before.
        """
        ok = True
        with self._lock:
            retired = sorted(self._retired.items())
        for first, segment in retired:
            if first in self._doubts:
                if time.monotonic() >= self._doubts[first][1]:
                    self.write_again(segment)
            elif self.sync(segment, segment.size):
                with self._lock:
                    del self._retired[first]
                segment.close()
            else:
                ok = self.write_again(segment) and ok
        return ok

    def write_again(self, segment: SegmentFile) -> bool:
        """Rewrites the unconfirmed frames of a retired segment to a new file; returns whether they are safe."""
        first = segment.first_sequence
        begin, _ = self._doubts[first]
        frames = self._unconfirmed(segment)
        data = b"".join(frame(one.sequence, one.digest, one.payload) for one in frames)
        path = layout.segment_file(segment.path.parent, frames[0].sequence if frames else first)
        if frames:
            try:
                self._put(path, data)
            except OSError as error:
                _logger.error("%s: expected to rewrite unconfirmed records, found %s", path, error)
                self._doubts[first] = (begin, time.monotonic() + _RETRY_SECONDS)
                return False
        if path != segment.path or not frames:
            with suppress(OSError):  # the remaining bytes are copies of the same frames, which readers skip
                files.cut_file(segment.path, segment.synced)
        with self._lock:
            if first in self._sizes:
                self._sizes[first] = segment.synced
            if frames:
                self._sizes[layout.first_sequence(path)] = len(data)
            del self._doubts[first], self._retired[first]
        segment.close()
        lost = segment.last_sequence - begin + 1 - len(frames)
        if lost > 0:
            self._losses.append((lost, f"{segment.path}: not confirmed by the disk, and not readable"))
        return lost <= 0

    def advance(self, last: int) -> None:
        """Records that everything up to ``last`` was passed to ``sync``."""
        limit = min((begin for begin, _ in self._doubts.values()), default=last + 1)
        self.through = max(self.through, min(last, limit - 1))

    def take_losses(self) -> list[tuple[int, str]]:
        """Counts and reasons of frames that could not be saved; each is returned once."""
        losses, self._losses = self._losses, []
        return losses

    def close(self) -> None:
        """Closes the files."""
        for segment in self._retired.values():
            segment.close()

    def _put(self, path: Path, data: bytes) -> None:
        try:
            files.replace_file(path, data)
        except OSError as error:
            if not files.is_full(error) or not self._make_room(len(data)):
                raise
            files.replace_file(path, data)

    def _unconfirmed(self, segment: SegmentFile) -> list[Frame]:
        frames: dict[int, Frame] = {}
        with suppress(SpoolError):
            data = files.read_range(segment.path, segment.synced, segment.size - segment.synced)
            frames = {one.sequence: one for one in parse_frames(data, segment.synced)}
        with self._lock:
            recent = self._recent.of_segment(segment.first_sequence)
        for one in recent:
            if one.end > segment.synced:
                frames[one.sequence] = one
        return [frames[sequence] for sequence in sorted(frames)]
