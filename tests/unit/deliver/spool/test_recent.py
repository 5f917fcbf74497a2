from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from mlaudit.deliver.spool import files
from mlaudit.deliver.spool.files import Ack, Frame
from mlaudit.deliver.spool.recent import RecentFrames
from mlaudit.deliver.spool.spool import StreamSpool

LAST = 1 << 40


def frames(first: int, last: int) -> list[Frame]:
    """Frames with payloads of 100 bytes."""
    return [Frame(number, bytes(32), bytes(100), number * 148) for number in range(first, last + 1)]


def test_oldest_frames_go_when_it_is_full() -> None:
    """A position before the oldest frame in memory returns nothing."""
    recent = RecentFrames(300)
    for frame in frames(1, 5):
        recent.add(1, frame)
    assert recent.after(Ack(0, 1, 0), 1 << 20, LAST) == ([], Ack(0, 1, 0))
    handed, ack = recent.after(Ack(2, 1, 296), 1 << 20, LAST)
    assert [frame.sequence for frame in handed] == [3, 4, 5]
    assert ack == Ack(5, 1, 740)


def test_batch_is_bounded_and_holds_at_least_one_frame() -> None:
    """A batch ends before it is too large, but a single large frame is a batch."""
    recent = RecentFrames(1 << 20)
    for frame in frames(1, 5):
        recent.add(1, frame)
    assert [frame.sequence for frame in recent.after(Ack(0, 1, 0), 300, LAST)[0]] == [1, 2]
    assert [frame.sequence for frame in recent.after(Ack(0, 1, 0), 1, LAST)[0]] == [1]


def test_acknowledged_frames_are_forgotten() -> None:
    """After an acknowledgement the next frame is the first."""
    recent = RecentFrames(1 << 20)
    for frame in frames(1, 3):
        recent.add(1, frame)
    recent.forget(2)
    assert [frame.sequence for frame in recent.after(Ack(2, 1, 296), 1 << 20, LAST)[0]] == [3]
    assert recent.after(Ack(0, 1, 0), 1 << 20, LAST)[0] == []


def test_nothing_unconfirmed_is_handed_over() -> None:
    """Frames after the last confirmed sequence are not returned."""
    recent = RecentFrames(1 << 20)
    for frame in frames(1, 5):
        recent.add(1, frame)
    assert [frame.sequence for frame in recent.after(Ack(0, 1, 0), 1 << 20, 3)[0]] == [1, 2, 3]
    assert recent.after(Ack(3, 1, 444), 1 << 20, 3)[0] == []


@pytest.mark.parametrize("kept_bytes", [0, 250, 1 << 20])
def test_spool_gives_the_same_frames_from_memory_and_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    """With any amount of frames in memory, over several segments, a reader gets what is in the files."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool._RECENT_BYTES", kept_bytes)
    monkeypatch.setattr("mlaudit.deliver.spool.spool.SEGMENT_BYTES", 500)
    spool = StreamSpool.create(tmp_path, "s", 1 << 20)
    read: list[Frame] = []
    written = 0
    while len(read) < 40:
        for _ in range(3):
            written += 1
            payload = str(written).encode().ljust(100)
            spool.append(written, sha256(payload).digest(), payload, durable=False)
        spool.sync()
        found, ack = spool.read(250)
        on_disk = next(iter(files.read_frames(tmp_path / "s" / f"{ack.segment:020d}.seg")[0]))
        assert on_disk.sequence == ack.segment
        read += found
        spool.acknowledge(ack)
    assert [frame.sequence for frame in read] == list(range(1, len(read) + 1))
    assert all(frame.digest == sha256(frame.payload).digest() for frame in read)
    spool.close(remove=True)
