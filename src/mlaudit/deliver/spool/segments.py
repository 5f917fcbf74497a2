"""The segments of a stream: the one that is appended to, and how much of all of them is unsent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mlaudit.deliver.spool import layout
from mlaudit.deliver.spool.segment_file import SegmentFile

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.deliver.spool.confirm import Confirmation
    from mlaudit.deliver.spool.files import Ack
    from mlaudit.deliver.spool.retained import Retention

_logger = logging.getLogger("mlaudit")


class Segments:
    """The index of one stream's segments. The spool holds its lock around every call except ``take_away``.

    Attributes:
        current: the segment that is appended to.
        sizes: bytes of all other segments, by first sequence.
        unsent: bytes that are not acknowledged.
    """

    def __init__(
        self, folder: Path, sizes: dict[int, int], retention: Retention | None, segment_bytes: int
    ) -> None:
        self.current: SegmentFile | None = None
        self.sizes = sizes
        self.unsent = 0
        self._folder = folder
        self._retention = retention
        self._segment_bytes = segment_bytes

    @property
    def stored(self) -> int:
        """Bytes of all segments."""
        return sum(self.sizes.values()) + (0 if self.current is None else self.current.size)

    @property
    def retains(self) -> bool:
        """Whether there may be delivered segments to delete."""
        return self._retention is not None

    def ready(self, sequence: int, confirmation: Confirmation) -> SegmentFile:
        """The segment to append ``sequence`` to.

        Raises:
            SpoolUnavailableError: a new one is needed and cannot be created.
        """
        segment = self.current
        if segment is None or segment.torn or segment.size >= self._segment_bytes:
            self.retire(sequence - 1, confirmation)
            segment = self.current = SegmentFile(layout.segment_file(self._folder, sequence))
            self.sizes.pop(sequence, None)  # a segment whose first frame was cut short, and that restarts
        return segment

    def retire(self, last_sequence: int, confirmation: Confirmation) -> None:
        """Completes the current segment, whose last frame is ``last_sequence``."""
        segment, self.current = self.current, None
        if segment is None:
            return
        segment.last_sequence = last_sequence
        if segment.size:
            self.sizes[segment.first_sequence] = segment.size
            confirmation.retire(segment)
        else:
            segment.close()

    def after(self, first: int) -> int:
        """The segment after the one that begins with ``first``, or 0."""
        later = [segment for segment in self.sizes if segment > first]
        if self.current is not None and self.current.first_sequence > first:
            later.append(self.current.first_sequence)
        return min(later, default=0)

    def end_of(self, first: int, confirmation: Confirmation) -> int:
        """The offset up to which a segment may be read."""
        if self.current is not None and self.current.first_sequence == first:
            return self.current.synced
        return confirmation.synced_bytes(first, self.sizes.get(first, 0))

    def count_unsent(self, ack: Ack) -> None:
        """Counts what is unsent when everything up to ``ack`` is acknowledged."""
        sizes = self.sizes
        if self.current is not None:
            sizes = sizes | {self.current.first_sequence: self.current.size}
        behind = sum(size for first, size in sizes.items() if first > ack.segment)
        self.unsent = behind + max(0, sizes.get(ack.segment, 0) - ack.offset)

    def acknowledged(self, ack: Ack) -> list[Path]:
        """Removes wholly delivered segments from the index and returns them; the caller calls ``take_away``."""
        gone = sorted(first for first in self.sizes if first < ack.segment)
        for first in gone:
            del self.sizes[first]
        self.count_unsent(ack)
        return [layout.segment_file(self._folder, first) for first in gone]

    def take_away(self, path: Path) -> None:
        """Retains or deletes a delivered segment; when neither is possible, it stays where it is."""
        try:
            if self._retention is not None:
                self._retention.take(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            _logger.warning("%s: delivered, and cannot be removed: %s", path, error)

    def make_room(self, size: int) -> bool:
        """On a full disk: deletes delivered segments in favour of undelivered records."""
        return self._retention is not None and self._retention.give_up(size)
