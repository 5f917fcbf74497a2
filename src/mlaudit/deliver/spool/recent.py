"""The newest frames of a stream in memory, so that the sender need not read back what was just written.

The files are authoritative: this holds only frames that are in them, drops the oldest when it is full, and returns
nothing for a position before its oldest frame.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mlaudit.deliver.spool.files import Ack
from mlaudit.deliver.spool.frames import HEADER_BYTES, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator


class RecentFrames:
    """Frames in order, at most ``max_bytes`` of them. Not thread-safe: its owner serializes the calls."""

    __slots__ = ("_bytes", "_frames", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._frames: deque[tuple[int, Frame]] = deque()

    def add(self, segment: int, frame: Frame) -> None:
        """Adds the frame that was just written to the segment that begins with sequence ``segment``."""
        self._frames.append((segment, frame))
        self._bytes += len(frame.payload)
        while self._bytes > self._max_bytes:
            self._drop_oldest()

    def after(self, position: Ack, max_bytes: int, through: int) -> tuple[list[Frame], Ack]:
        """Frames directly after ``position``, and the position after them; an empty list when they are not here.

        About ``max_bytes`` of them, up to sequence ``through``.
        """
        if position.sequence >= through or not self._frames:
            return [], position
        if self._frames[0][1].sequence != position.sequence + 1:
            return [], position
        found = list(self._up_to(max_bytes, through))
        segment, last = found[-1]
        return [frame for _, frame in found], Ack(last.sequence, segment, last.end)

    def of_segment(self, segment: int) -> list[Frame]:
        """The frames of the segment that begins with sequence ``segment``."""
        return [frame for first, frame in self._frames if first == segment]

    def forget(self, sequence: int) -> None:
        """Drops the acknowledged frames, up to ``sequence``."""
        while self._frames and self._frames[0][1].sequence <= sequence:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, frame = self._frames.popleft()
        self._bytes -= len(frame.payload)

    def _up_to(self, max_bytes: int, through: int) -> Iterator[tuple[int, Frame]]:
        left = max_bytes
        for number, item in enumerate(self._frames):
            left -= len(item[1].payload) + HEADER_BYTES
            if (left < 0 and number) or item[1].sequence > through:
                return
            yield item
