from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.files import Ack
from mlaudit.deliver.spool.lock import take_lock
from mlaudit.deliver.spool.segment_file import SegmentFile
from mlaudit.errors import SpoolUnavailableError

frames_strategy = st.lists(st.binary(max_size=300), min_size=1, max_size=6)


@given(frames_strategy, st.data())
def test_a_cut_anywhere_costs_only_the_frame_it_hits(payloads: list[bytes], data: st.DataObject) -> None:
    """Reading a segment cut at any byte gives every whole frame before the cut, and nothing else."""
    encoded = [files.frame(i + 1, bytes(32), payload) for i, payload in enumerate(payloads)]
    whole = b"".join(encoded)
    cut = data.draw(st.integers(min_value=0, max_value=len(whole)))
    found = list(files.parse_frames(whole[:cut]))
    ends = [sum(map(len, encoded[: i + 1])) for i in range(len(encoded))]
    assert [frame.payload for frame in found] == payloads[: sum(end <= cut for end in ends)]


@given(frames_strategy, st.data())
def test_a_changed_byte_is_never_read_as_a_frame(payloads: list[bytes], data: st.DataObject) -> None:
    """A frame in which any byte changed is not returned."""
    encoded = bytearray(b"".join(files.frame(i + 1, bytes(32), p) for i, p in enumerate(payloads)))
    place = data.draw(st.integers(min_value=0, max_value=len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(min_value=1, max_value=255))
    found = list(files.parse_frames(bytes(encoded)))
    assert len(found) < len(payloads)
    assert [frame.payload for frame in found] == payloads[: len(found)]


def test_offsets_continue_from_where_the_data_begins() -> None:
    """A frame's end counts from the start of the segment, not of what was read of it."""
    data = files.frame(5, bytes(32), b"x") + files.frame(6, bytes(32), b"y")
    size = len(data) // 2
    assert [frame.end for frame in files.parse_frames(data, 1000)] == [1000 + size, 1000 + 2 * size]


def test_lock_excludes_a_second_holder(tmp_path: Path) -> None:
    """A stream's lock is taken once and free again after its holder releases it."""
    first = take_lock(tmp_path)
    assert first is not None
    assert take_lock(tmp_path) is None
    os.close(first)
    second = take_lock(tmp_path)
    assert second is not None
    os.close(second)


def test_damaged_ack_is_no_ack(tmp_path: Path) -> None:
    """An acknowledged position is read back, and ignored when one of its bits changed."""
    descriptor = files.open_ack(tmp_path)
    files.write_ack(descriptor, Ack(9, 5, 321))
    os.close(descriptor)
    assert files.read_ack(tmp_path) == Ack(9, 5, 321)
    path = layout.ack_file(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[3] ^= 1
    path.write_bytes(raw)
    assert files.read_ack(tmp_path) is None


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A spool path under a regular file is refused with the path in the message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnavailableError, match="file/spool"):
        files.make_folder(tmp_path / "file" / "spool")


def test_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills in the middle of a frame, the frame's first half is cut off again."""
    segment = SegmentFile(tmp_path / "1.seg")
    segment.append(b"first")
    real = os.write
    calls = []

    def short_then_full(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 1:
            return real(descriptor, data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", short_then_full)
    with pytest.raises(SpoolUnavailableError, match="No space left"):
        segment.append(b"second")
    monkeypatch.undo()
    segment.append(b"third")
    segment.close()
    assert (tmp_path / "1.seg").read_bytes() == b"firstthird"


def test_replace_file_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement that fails half-way leaves the old file and no temporary files."""
    path = tmp_path / "note"
    files.replace_file(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        files.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]
