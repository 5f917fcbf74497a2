"""Unreadable parts of a spool are quarantined, reported, and block nothing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.deliver.spool.test_spool import BIG, die, fill, read_all

from mlaudit.deliver.spool import files, layout, lock
from mlaudit.deliver.spool.frames import HEADER_BYTES, Frame, Unreadable, find_frame, frame, read_pieces
from mlaudit.deliver.spool.spool import StreamSpool

FRAME = HEADER_BYTES + 100


def left_behind(tmp_path: Path, last: int = 10) -> Path:
    """A stream of a dead process; its only segment."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, last)
    die(spool)
    (segment,) = layout.segments(tmp_path / "s")
    return segment


def damage(segment: Path, *places: int) -> None:
    """Changes a byte at each place."""
    raw = bytearray(segment.read_bytes())
    for place in places:
        raw[place] ^= 0xFF
    segment.write_bytes(raw)


def adopt(tmp_path: Path) -> StreamSpool:
    """Takes the stream over."""
    spool = StreamSpool.adopt(tmp_path / "s", BIG)
    assert spool is not None
    return spool


@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=8),
    st.binary(max_size=300),
    st.integers(0, 1 << 20),
)
def test_frames_behind_garbage_are_found(payloads: list[bytes], garbage: bytes, previous: int) -> None:
    """The first frame that continues the stream is found after any bytes."""
    begin = previous + 1 + len(garbage) // HEADER_BYTES
    good = b"".join(frame(begin + number, bytes(32), payload) for number, payload in enumerate(payloads))
    assert find_frame(garbage + good, previous) == len(garbage)
    pieces = list(read_pieces(garbage + good, previous))
    assert [piece.payload for piece in pieces if isinstance(piece, Frame)] == payloads
    assert b"".join(piece.data for piece in pieces if isinstance(piece, Unreadable)) == garbage


def test_garbage_costs_one_pass() -> None:
    """Megabytes without a frame, zeros included, are searched quickly."""
    assert find_frame(bytes(8 << 20), 0) == -1
    assert find_frame(bytes(range(256)) * (4 << 12), 0) == -1


@pytest.mark.parametrize("number", [1, 5, 9])
@pytest.mark.parametrize("place", [0, 5, 10, 60, FRAME - 1])
def test_only_the_damaged_frame_is_lost(tmp_path: Path, number: int, place: int) -> None:
    """With damage at any place the other frames are read, and lost ones are counted and quarantined."""
    segment = left_behind(tmp_path)
    start = (number - 1) * FRAME
    damage(segment, start + place)
    hit = segment.read_bytes()[start : start + FRAME]
    spool = adopt(tmp_path)
    assert spool.last_sequence == 10
    ((records, reason),) = spool.damage
    assert records == 1
    (kept,) = layout.quarantine_folder(tmp_path / "s").iterdir()
    assert kept.name in reason
    assert kept.read_bytes() == hit
    assert read_all(spool) == [n for n in range(1, 11) if n != number]
    spool.close(remove=True)
    assert layout.streams(tmp_path) == []
    assert layout.quarantined_streams(tmp_path) == [tmp_path / "s"]


def test_a_hole_over_several_frames_is_counted(tmp_path: Path) -> None:
    """Adjacent missing frames are counted by the sequences around the gap."""
    segment = left_behind(tmp_path)
    raw = bytearray(segment.read_bytes())
    raw[3 * FRAME + 7 : 6 * FRAME - 9] = b"#" * (3 * FRAME - 16)
    segment.write_bytes(raw)
    spool = adopt(tmp_path)
    assert [records for records, _ in spool.damage] == [3]
    assert read_all(spool) == [1, 2, 3, 7, 8, 9, 10]
    spool.close(remove=True)


def test_damage_in_what_is_acknowledged_is_no_loss(tmp_path: Path) -> None:
    """What was delivered before it was damaged is neither counted nor kept."""
    spool = StreamSpool.create(tmp_path, "s", BIG)
    fill(spool, 1, 10)
    spool.acknowledge(spool.read(5 * FRAME)[1])
    die(spool)
    (segment,) = layout.segments(tmp_path / "s")
    damage(segment, FRAME + 3)
    adopted = adopt(tmp_path)
    assert adopted.damage == []
    assert read_all(adopted) == list(range(6, 11))
    adopted.close(remove=True)
    assert not (tmp_path / "s").exists()


def test_living_stream_goes_on_past_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that changes bytes under a running process costs that frame, reported once with count and place."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool._RECENT_BYTES", 0)
    spool = StreamSpool.create(tmp_path, "s", BIG)
    told: list[tuple[int, str]] = []
    spool.on_damage = lambda records, reason: told.append((records, reason))
    fill(spool, 1, 10)
    damage(layout.segment_file(tmp_path / "s", 1), 4 * FRAME + 70)
    assert read_all(spool, 2 * FRAME) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    fill(spool, 11, 12)
    assert read_all(spool) == [11, 12]
    ((records, reason),) = told
    assert records == 1
    assert "quarantine" in reason
    assert spool.unsent_bytes == 0
    spool.close(remove=True)


def unreadable(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    """Reading ``path`` fails with ``number`` from now on."""
    real = files.open_regular

    def fail(opened: Path) -> Any:
        if opened == path:
            raise OSError(number, "refused")
        return real(opened)

    monkeypatch.setattr(files, "open_regular", fail)


@pytest.mark.parametrize("living", [True, False])
def test_unreadable_segment_is_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, living: bool
) -> None:
    """A segment that the disk cannot read is quarantined whole and counted, and the next ones are read."""
    monkeypatch.setattr("mlaudit.deliver.spool.spool._RECENT_BYTES", 0)
    monkeypatch.setattr("mlaudit.deliver.spool.spool.SEGMENT_BYTES", 5 * FRAME)
    spool = StreamSpool.create(tmp_path, "s", BIG)
    told: list[tuple[int, str]] = []
    fill(spool, 1, 15)
    bad = layout.segment_file(tmp_path / "s", 6)
    if not living:
        die(spool)
    unreadable(monkeypatch, bad, errno.EIO)
    if not living:
        spool = adopt(tmp_path)
        told += spool.damage
    spool.on_damage = lambda records, reason: told.append((records, reason))
    assert read_all(spool) == [*range(1, 6), *range(11, 16)]
    assert [records for records, _ in told] == [5]
    assert not bad.exists()
    assert (layout.quarantine_folder(tmp_path / "s") / bad.name).exists()
    spool.close(remove=True)
    assert layout.streams(tmp_path) == []


def test_passing_trouble_sets_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files are not damage: the stream waits, and its lock is free for the next attempt."""
    segment = left_behind(tmp_path)
    with monkeypatch.context() as patched:
        unreadable(patched, segment, errno.EMFILE)
        with pytest.raises(files.SpoolError):
            StreamSpool.adopt(tmp_path / "s", BIG)
    spool = adopt(tmp_path)
    assert read_all(spool) == list(range(1, 11))
    spool.close(remove=True)


def test_stream_of_nothing_but_damage_goes_away(tmp_path: Path) -> None:
    """A stream in which no frame can be read has no head; its bytes are kept and it is not read again."""
    segment = left_behind(tmp_path)
    segment.write_bytes(b"#" * 5000)
    spool = adopt(tmp_path)
    assert spool.last_sequence == 0
    assert [records for records, _ in spool.damage] == [1]
    spool.close(remove=True)
    assert layout.streams(tmp_path) == []
    assert layout.quarantined_streams(tmp_path) == [tmp_path / "s"]


def test_empty_segments_and_strange_files_disturb_nothing(tmp_path: Path) -> None:
    """Empty segments and files with other names are skipped, and the names stay."""
    left_behind(tmp_path)
    layout.segment_file(tmp_path / "s", 11).touch()
    layout.segment_file(tmp_path / "s", 0).touch()
    for name in ("core", "12.seg", "0000000000000000000x.seg", "00000000000000000001.seg~"):
        (tmp_path / "s" / name).write_bytes(b"?")
    spool = adopt(tmp_path)
    assert spool.last_sequence == 10
    assert read_all(spool) == list(range(1, 11))
    spool.close(remove=True)
    assert layout.streams(tmp_path) == []
    assert (tmp_path / "s" / "core").exists()


def test_segments_without_a_lock_file_are_a_stream(tmp_path: Path) -> None:
    """A stream folder without its lock file is found and adopted as well."""
    left_behind(tmp_path)
    layout.lock_file(tmp_path / "s").unlink()
    assert layout.streams(tmp_path) == [tmp_path / "s"]
    spool = adopt(tmp_path)
    assert not spool.restarted
    assert read_all(spool) == list(range(1, 11))
    spool.close(remove=True)
    assert layout.streams(tmp_path) == []


def test_zeros_at_the_end_are_an_unfinished_write(tmp_path: Path) -> None:
    """A tail of zeros, as a power failure leaves it, is cut off like any unfinished write."""
    segment = left_behind(tmp_path)
    segment.write_bytes(segment.read_bytes() + bytes(500))
    spool = adopt(tmp_path)
    assert spool.torn_bytes == 500
    assert spool.damage == []
    spool.close(remove=False)
    assert not layout.quarantine_folder(tmp_path / "s").exists()


def test_adopter_learns_of_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream from before a restart of the machine is marked as such when it is adopted."""
    left_behind(tmp_path)
    spool = adopt(tmp_path)
    assert not spool.restarted
    die(spool)
    monkeypatch.setattr(lock, "boot_id", lambda: "another")
    spool = adopt(tmp_path)
    assert spool.restarted
    spool.close(remove=False)
