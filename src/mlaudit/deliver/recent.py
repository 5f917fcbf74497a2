"""The newest frames of a stream, kept in memory so that the sender need not read back what was just written.

The files stay the truth: this holds only frames that are in them, lets the oldest go when it is full, and has
nothing to say about a position that it does not reach back to.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mlaudit.deliver.files import HEADER_BYTES, Ack, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator


class RecentFrames:
    """Frames in order, at most ``max_bytes`` of them. Not thread-safe: its owner orders the calls."""

    __slots__ = ("_bytes", "_frames", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._frames: deque[tuple[int, Frame]] = deque()

    def add(self, segment: int, frame: Frame) -> None:
        """Takes the frame that was just written to the segment that begins with ``segment``."""
        self._frames.append((segment, frame))
        self._bytes += len(frame.payload)
        while self._bytes > self._max_bytes:
            self._let_go()

    def after(self, position: Ack, max_bytes: int) -> tuple[list[Frame], Ack]:
        """About ``max_bytes`` of frames right behind ``position`` and the position after them; else an empty list."""
        if not self._frames or self._frames[0][1].sequence != position.sequence + 1:
            return [], position
        found = list(self._up_to(max_bytes))
        segment, last = found[-1]
        return [frame for _, frame in found], Ack(last.sequence, segment, last.end)

    def forget(self, sequence: int) -> None:
        """Lets go of what is acknowledged, up to ``sequence``."""
        while self._frames and self._frames[0][1].sequence <= sequence:
            self._let_go()

    def _let_go(self) -> None:
        _, frame = self._frames.popleft()
        self._bytes -= len(frame.payload)

    def _up_to(self, max_bytes: int) -> Iterator[tuple[int, Frame]]:
        left = max_bytes
        for number, item in enumerate(self._frames):
            left -= len(item[1].payload) + HEADER_BYTES
            if left < 0 and number:
                return
            yield item
