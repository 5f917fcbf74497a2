"""Recovers the stream folder of a process that has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlaudit.deliver.spool import files, layout, quarantine
from mlaudit.deliver.spool.files import Ack
from mlaudit.deliver.spool.frames import Frame, read_pieces
from mlaudit.errors import UnreadableSegmentError

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.deliver.spool.quarantine import Damage


@dataclass(slots=True)
class Recovered:
    """A stream as read from its folder.

    Attributes:
        acknowledged: its acknowledged position.
        sizes: bytes of each segment, by first sequence.
        last_sequence, last_digest, last_payload: of the last readable frame; 0 when there is none.
        torn_bytes: bytes of writes that a crash cut short.
        damage: unacknowledged records that are unreadable or missing.
        counted: the number of these records that come after the last frame.
    """

    acknowledged: Ack
    sizes: dict[int, int] = field(default_factory=dict)
    last_sequence: int = 0
    last_digest: bytes = b""
    last_payload: bytes = b""
    torn_bytes: int = 0
    damage: list[Damage] = field(default_factory=list)
    counted: int = 0


def recover(folder: Path) -> Recovered:
    """Reads a stream folder whose lock is held, and quarantines its unreadable parts.

    Everything that was read is synced before this returns: a power failure must not lose records that are sent, even
    if the process that wrote them did not sync them.

    Raises:
        SpoolError, OSError: the disk fails at the moment.
    """
    paths = layout.segments(folder)
    firsts = [layout.first_sequence(path) for path in paths]
    beginning = firsts[0] if firsts else 1
    acknowledged = files.read_ack(folder)
    if acknowledged is None or acknowledged.sequence < beginning - 1:
        # The position is older than the last removed segment, or lost: it is not synced.
        acknowledged = Ack(beginning - 1, beginning, 0)
    found = Recovered(acknowledged)
    # Without a segment (the writer died before its first record) there is nothing to pair.
    for path, first, follower in zip(paths, firsts, [*firsts[1:], 0], strict=False):
        try:
            data = files.read_range(path, 0, -1)
        except UnreadableSegmentError as error:
            count = follower - 1 - max(found.last_sequence, acknowledged.sequence, first - 1)
            damage = quarantine.keep_segment(path, count, error)
            found.damage.append(damage)
            found.counted += damage.records
            continue
        files.sync_file(path)
        found.sizes[first] = len(data)
        _read(found, path, data, max(found.last_sequence, first - 1), follower)
    files.sync_folder(folder)
    return found


def _read(found: Recovered, path: Path, data: bytes, previous: int, follower: int) -> None:
    segment = layout.first_sequence(path)
    for piece in read_pieces(data, previous):
        if isinstance(piece, Frame):
            if piece.sequence > found.last_sequence:
                _count_hole(found, path, piece.sequence)
                found.last_sequence, found.last_digest = piece.sequence, piece.digest
                found.last_payload = piece.payload
        elif (segment, piece.start) >= found.acknowledged[1:]:
            lost = piece._replace(previous=max(piece.previous, found.acknowledged.sequence))
            damage = quarantine.keep_damage(path, lost, follower)
            found.counted += max(0, (lost.following or follower) - lost.previous - 1)
            if damage is not None:
                found.damage.append(damage)
            elif not piece.following:
                found.torn_bytes += len(piece.data)


def _count_hole(found: Recovered, path: Path, sequence: int) -> None:
    """Notes missing records before ``sequence`` without damage: a power failure cut off the end of a segment."""
    missing = sequence - 1 - max(found.last_sequence, found.acknowledged.sequence) - found.counted
    if missing > 0:
        damage = quarantine.note_missing(path.parent, sequence - missing, sequence - 1)
        if damage is not None:
            found.damage.append(damage)
    found.counted = 0
