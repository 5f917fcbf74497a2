"""What is in the folder of a stream whose process is gone."""

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
    """A stream as it was found.

    Attributes:
        acknowledged: how far it was acknowledged.
        sizes: bytes of each segment, by first sequence.
        last_sequence, last_digest, last_payload: of the last frame that can be read; 0 when none can.
        torn_bytes: bytes of writes that a crash cut short.
        damage: what was not acknowledged and cannot be read, or is not there.
        counted: how many records of it come after the last frame.
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
    """Reads a stream folder whose lock is held, and sets aside what cannot be read of it.

    Everything that was read is synced before this returns: what is sent must not be lost by a power failure,
    whether or not the process that wrote it got to the sync.

    Raises:
        SpoolError, OSError: the disk refuses for the moment.
    """
    paths = layout.segments(folder)
    firsts = [layout.first_sequence(path) for path in paths]
    beginning = firsts[0] if firsts else 1
    acknowledged = files.read_ack(folder)
    if acknowledged is None or acknowledged.sequence < beginning - 1:
        # The note is older than the last segment that went, or lost: it is not synced.
        acknowledged = Ack(beginning - 1, beginning, 0)
    found = Recovered(acknowledged)
    # Without a segment, as when the writer died before its first record, there is nothing to pair.
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
    """Notes records before ``sequence`` that no damage accounts for: a power failure took the end of a segment."""
    missing = sequence - 1 - max(found.last_sequence, found.acknowledged.sequence) - found.counted
    if missing > 0:
        damage = quarantine.note_missing(path.parent, sequence - missing, sequence - 1)
        if damage is not None:
            found.damage.append(damage)
    found.counted = 0
