from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.deliver.spool.syncing import SyncThread
from mlaudit.errors import SpoolFullError, SpoolUnavailableError

BIG = 1 << 30


def fill(spool: StreamSpool, first: int, last: int, size: int = 100, *, durable: bool = False) -> list[bytes]:
    """Appends the frames ``first`` to ``last``, syncs, and returns their payloads."""
    payloads = [f"{number}:".encode().ljust(size, b".") for number in range(first, last + 1)]
    for number, payload in enumerate(payloads, first):
        spool.append(number, sha256(payload).digest(), payload, durable=durable)
    spool.sync()
    return payloads


def die(spool: StreamSpool) -> None:
    """Leaves the folder like a killed process: nothing is closed properly, the kernel releases the lock."""
    with spool._state:
        spool._sync_thread.stopping = True
        spool._state.notify_all()
    spool._sync_thread.join()
    spool.forget()


def read_all(spool: StreamSpool, max_bytes: int = 1 << 20) -> list[int]:
    """Reads and acknowledges everything; returns the sequences."""
    seen = []
    while True:
        frames, ack = spool.read(max_bytes)
        if not frames:
            return seen
        seen += [frame.sequence for frame in frames]
        spool.acknowledge(ack)


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    """What was appended is read in order and in small batches, and only once after its acknowledgement."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 50)
    assert read_all(spool, 1000) == list(range(1, 51))
    fill(spool, 51, 60)
    assert read_all(spool) == list(range(51, 61))
    spool.close(remove=True)
    assert not (tmp_path / "s").exists()


def test_unacknowledged_frames_are_read_again(tmp_path: Path) -> None:
    """A batch that was not acknowledged is the next batch again."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 3)
    assert [f.sequence for f in spool.read(1 << 20)[0]] == [1, 2, 3]
    assert [f.sequence for f in spool.read(1 << 20)[0]] == [1, 2, 3]
    assert spool.unacknowledged
    spool.close(remove=False)


def test_frame_larger_than_the_batch_is_read_alone(tmp_path: Path) -> None:
    """A frame that does not fit into a batch is a batch of its own."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 2, size=5000)
    assert [f.sequence for f in spool.read(100)[0]] == [1]
    spool.close(remove=False)


def test_durable_ticket_settles_after_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A durable append is confirmed only once fdatasync has returned."""
    synced: list[int] = []
    real = os.fdatasync

    def count(descriptor: int) -> None:
        real(descriptor)
        synced.append(descriptor)

    monkeypatch.setattr(os, "fdatasync", count)
    spool = StreamSpool.create(tmp_path, "s", BIG)
    ticket = spool.append(1, bytes(32), b"x", durable=True)
    assert ticket.wait(10)
    assert synced
    spool.close(remove=False)


def refuse_sync(descriptor: int) -> None:
    """A disk that confirms nothing."""
    raise OSError(5, "Input/output error")


def test_refused_sync_breaks_the_promise_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk confirms nothing, durable tickets fail and nothing is sent; afterwards nothing is lost."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 3)
    monkeypatch.setattr(os, "fdatasync", refuse_sync)
    monkeypatch.setattr(os, "fsync", refuse_sync)
    spool.append(4, bytes(32), b"buffered", durable=False)
    ticket = spool.append(5, bytes(32), b"durable", durable=True)
    ticket.wait(10)
    assert ticket.done
    assert not ticket.ok
    assert [frame.sequence for frame in spool.read(1 << 20)[0]] == [1, 2, 3]
    monkeypatch.undo()
    monkeypatch.setattr("mlaudit.deliver.spool.confirm._RETRY_SECONDS", 0.0)
    assert spool.append(6, bytes(32), b"y", durable=True).wait(10)
    deadline = time.monotonic() + 20
    while spool.synced_sequence < 6 and time.monotonic() < deadline:
        spool.sync()
        time.sleep(0.01)
    assert read_all(spool) == [1, 2, 3, 4, 5, 6]
    spool.close(remove=False)


@pytest.mark.parametrize("kept_in_memory", [0, 1 << 20])
@pytest.mark.parametrize("confirmed_before", [0, 3])
def test_frames_in_doubt_are_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confirmed_before: int, kept_in_memory: int
) -> None:
    """After one failed sync the unconfirmed frames are safe in a new file, once, and their tickets succeed."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool._RECENT_BYTES", kept_in_memory)
    spool = StreamSpool.create(tmp_path, "s", BIG)
    if confirmed_before:
        fill(spool, 1, confirmed_before)
    monkeypatch.setattr(os, "fdatasync", refuse_sync)
    ticket = spool.append(confirmed_before + 1, bytes(32), b"in doubt", durable=True)
    assert ticket.wait(10)
    monkeypatch.undo()
    fill(spool, confirmed_before + 2, confirmed_before + 4)
    stored = [frame for path in layout.segments(tmp_path / "s") for frame in files.read_frames(path)[0]]
    assert [frame.sequence for frame in stored] == list(range(1, confirmed_before + 5))
    die(spool)
    adopted = StreamSpool.adopt(tmp_path / "s", BIG)
    assert adopted is not None
    assert read_all(adopted) == list(range(1, confirmed_before + 5))
    adopted.close(remove=True)


def test_frames_that_cannot_be_saved_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unconfirmed and unreadable frames are reported with their number, and the others are sent."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool._RECENT_BYTES", 0)
    spool = StreamSpool.create(tmp_path, "s", BIG)
    told: list[tuple[int, str]] = []
    spool.on_damage = lambda count, reason: told.append((count, reason))
    monkeypatch.setattr(SyncThread, "start", lambda self: None)
    monkeypatch.setattr(os, "fdatasync", refuse_sync)
    for number in (1, 2):
        spool.append(number, bytes(32), b"x", durable=False)
    layout.segment_file(tmp_path / "s", 1).write_bytes(bytes(98))
    assert not spool.sync()
    monkeypatch.undo()
    fill(spool, 3, 4)
    assert read_all(spool) == [3, 4]
    assert sum(count for count, _ in told) == 2
    spool.close(remove=True)


def test_only_what_is_synced_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame is returned for sending only after the fsync that covers it, from memory and from disk."""
    monkeypatch.setattr("mlaudit.deliver.spool.syncing.SYNC_SECONDS", 60.0)
    for kept, name in ((0, "disk"), (1 << 20, "memory")):
        monkeypatch.setattr("mlaudit.deliver.spool.spool._RECENT_BYTES", kept)
        spool = StreamSpool.create(tmp_path, name, BIG)
        spool.append(1, bytes(32), b"first", durable=True).wait(10)
        spool.append(2, bytes(32), b"second", durable=False)
        assert [frame.sequence for frame in spool.read(1 << 20)[0]] == [1]
        spool.sync()
        assert [frame.sequence for frame in spool.read(1 << 20)[0]] == [1, 2]
        spool.close(remove=False)


def test_waiting_reader_wakes_on_sync(tmp_path: Path) -> None:
    """A reader that waits for data goes on when a frame is confirmed, not after its time-out."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    begun = time.monotonic()
    spool.append(1, bytes(32), b"x", durable=True)
    spool.wait_for_data(60)
    assert time.monotonic() - begun < 30
    assert spool.read(1 << 20)[0]
    spool.close(remove=False)


def test_closed_spool_takes_nothing(tmp_path: Path) -> None:
    """After closing, an append is refused and a second close does nothing."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 2)
    spool.close(remove=False)
    spool.close(remove=True)
    with pytest.raises(SpoolUnavailableError, match="closed"):
        spool.append(3, bytes(32), b"x", durable=False)
    assert len(layout.segments(tmp_path / "s")) == 1


def test_unsent_stream_is_not_removed(tmp_path: Path) -> None:
    """Closing with removal keeps a stream that still holds something unacknowledged."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 2)
    spool.close(remove=True)
    assert layout.streams(tmp_path) == [tmp_path / "s"]


def test_bound_is_kept_and_freed_by_acknowledgement(tmp_path: Path) -> None:
    """A full spool refuses without storing, and accepts again when old segments are acknowledged."""
    spool = StreamSpool.create(tmp_path, "s", 64 << 10)
    number = 1
    with pytest.raises(SpoolFullError, match="65536 bytes"):
        while True:
            fill(spool, number, number, size=1000)
            number += 1
    assert spool.unsent_bytes <= 64 << 10
    assert read_all(spool) == list(range(1, number))
    fill(spool, number, number + 5, size=1000)
    assert read_all(spool) == list(range(number, number + 6))
    spool.close(remove=False)


def test_dead_process_leaves_everything(tmp_path: Path) -> None:
    """A spool that was never closed is adopted with all its frames, its head and its acknowledged position."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    payloads = fill(spool, 1, 10)
    spool.acknowledge(spool.read(250)[1])
    before = spool.acknowledged.sequence
    die(spool)
    adopted = StreamSpool.adopt(tmp_path / "s", BIG)
    assert adopted is not None
    assert adopted.last_sequence == 10
    assert adopted.last_digest == sha256(payloads[-1]).digest()
    assert read_all(adopted) == list(range(before + 1, 11))
    adopted.close(remove=True)


def test_living_process_is_not_adopted(tmp_path: Path) -> None:
    """A stream whose writer holds the lock is left alone."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    assert StreamSpool.adopt(tmp_path / "s", BIG) is None
    spool.close(remove=True)
    assert StreamSpool.adopt(tmp_path / "s", BIG) is None


def test_torn_last_write_is_cut_and_counted(tmp_path: Path) -> None:
    """A frame that a crash cut short is skipped on adoption; the frames before it and after it are read."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 3)
    die(spool)
    (segment,) = layout.segments(tmp_path / "s")
    segment.write_bytes(segment.read_bytes()[:-20])
    adopted = StreamSpool.adopt(tmp_path / "s", BIG)
    assert adopted is not None
    assert adopted.last_sequence == 2
    assert adopted.torn_bytes > 0
    fill(adopted, 3, 3)
    assert read_all(adopted) == [1, 2, 3]
    adopted.close(remove=True)
    assert not (tmp_path / "s").exists()


def test_damage_is_set_aside_and_blocks_nothing(tmp_path: Path) -> None:
    """Bytes changed in the middle of a segment are quarantined, and later segments are read."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 5)
    die(spool)
    (segment,) = layout.segments(tmp_path / "s")
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    segment.write_bytes(raw)
    adopted = StreamSpool.adopt(tmp_path / "s", BIG)
    assert adopted is not None
    fill(adopted, 6, 7)
    assert read_all(adopted)[-2:] == [6, 7]
    kept = list(layout.quarantine_folder(tmp_path / "s").iterdir())
    assert len(kept) == 1
    assert kept[0].read_bytes() in bytes(raw)
    adopted.close(remove=True)
    assert kept[0].exists()


def test_segments_go_when_acknowledged_but_the_head_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledged segments are removed, except the one with the newest frame, the head of the chain."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool.SEGMENT_BYTES", 2000)
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 100)
    assert len(layout.segments(tmp_path / "s")) > 5
    read_all(spool)
    (left,) = layout.segments(tmp_path / "s")
    frames, _ = files.read_frames(left)
    assert frames[-1].sequence == 100
    spool.close(remove=True)


def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    """A spool that cannot be created gives an error with the folder and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnavailableError, match="expected a writable folder"):
        StreamSpool.create(tmp_path / "file", "s", BIG)
