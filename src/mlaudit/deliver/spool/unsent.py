"""Reads the unsent frames of a stream, and skips unreadable parts."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from mlaudit.deliver.spool import files, layout, quarantine
from mlaudit.deliver.spool.frames import HEADER_BYTES, Unreadable, parse_frames, read_pieces
from mlaudit.errors import UnreadableSegmentError

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.deliver.spool.files import Ack
    from mlaudit.deliver.spool.frames import Frame
    from mlaudit.deliver.spool.quarantine import Damage


class UnsentFrames:
    """Reads unsent frames, for the one thread that sends."""

    def __init__(self, stream: Path) -> None:
        self._stream = stream
        self._damage: list[Damage] = []
        self._moved = False

    def read(self, position: Ack, end: int, max_bytes: int, through: int, following: int) -> list[Frame]:
        """About ``max_bytes`` of frames of one segment; an empty list when it has no more.

        Args:
            position: frames after this are read.
            end: the offset up to which the segment may be read.
            max_bytes: a single frame may be larger.
            through: frames up to this sequence are read.
            following: the sequence with which the next segment begins.

        Raises:
            SpoolError: the segment cannot be read at the moment.
        """
        path = layout.segment_file(self._stream, position.segment)
        offset = position.offset
        try:
            while offset < end:
                data = files.read_range(path, offset, min(end - offset, max(max_bytes, HEADER_BYTES)))
                found = list(parse_frames(data, offset))
                if not found and len(data) < end - offset:  # one frame larger than the batch, or damage
                    data = files.read_range(path, offset, end - offset)
                    found = list(islice(parse_frames(data, offset), 1))
                if found:
                    # Frames that were rewritten after a failed sync may occur here a second time.
                    fresh = [frame for frame in found if position.sequence < frame.sequence <= through]
                    if fresh:
                        return fresh
                    offset = found[-1].end
                elif data:
                    offset += self._pass_over(path, offset, data, position.sequence, following)
                else:
                    break
        except UnreadableSegmentError as error:
            self._damage.append(quarantine.keep_segment(path, following - position.sequence - 1, error))
            self._moved = True
        return []

    def take_damage(self) -> tuple[list[Damage], bool]:
        """The damage found since the last call, and whether a whole segment was quarantined."""
        damage, self._damage = self._damage, []
        moved, self._moved = self._moved, False
        return damage, moved

    def _pass_over(self, path: Path, offset: int, data: bytes, previous: int, following: int) -> int:
        """Quarantines the damaged beginning of ``data``; returns its length."""
        piece = next(read_pieces(data, max(previous, layout.first_sequence(path) - 1)))
        assert isinstance(piece, Unreadable)
        damage = quarantine.keep_damage(path, piece._replace(start=offset), following)
        if damage is not None:
            self._damage.append(damage)
        return len(piece.data)
