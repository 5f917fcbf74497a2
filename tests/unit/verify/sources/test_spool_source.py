from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.sealed import KEYS, NEXT_ID, NOW, copy_of, frame, make_stream, named, payload, write_spool

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.files import Ack
from mlaudit.verify.report import Report
from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.verification import verify_source

VALID = make_stream()


def verify(path: Path) -> Report:
    """Verifies a spool."""
    return verify_source(open_source(path), KEYS, now=NOW)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Changes bytes of a file in place."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(bytes(content))


def offset_of(number: int, first: int = 1) -> int:
    """Where the frame of a record begins in the segment that begins with record ``first``."""
    return sum(len(frame(stored)) for stored in VALID[first - 1 : number - 1])


def test_spool_is_proven(tmp_path: Path) -> None:
    """All segments of all streams are read and proven; a single stream folder can be named as well."""
    folder = write_spool(tmp_path, VALID)
    write_spool(tmp_path, make_stream(stream_id=NEXT_ID))

    report = verify(tmp_path)

    assert report.ok
    assert report.records == 40
    assert verify(folder).records == 20


def test_delivered_beginning_is_named_as_not_looked_at(tmp_path: Path) -> None:
    """Acknowledged records may be missing; the report states what was not checked."""
    folder = write_spool(tmp_path, VALID)
    descriptor = files.open_ack(folder)
    files.write_ack(descriptor, Ack(8, 9, 0))
    os.close(descriptor)
    layout.segment_file(folder, 1).unlink()

    report = verify(tmp_path)

    assert report.ok
    assert report.not_checked == [f"stream {folder.name}: records 1 to 8 are delivered and gone from here"]


def test_missing_beginning_that_was_not_delivered_is_a_finding(tmp_path: Path) -> None:
    """A segment that was removed by hand is reported as missing."""
    folder = write_spool(tmp_path, VALID)
    layout.segment_file(folder, 1).unlink()

    assert named(verify(tmp_path).findings) == [("stream.start_missing", 1, 8)]


def test_torn_tail_is_information(tmp_path: Path) -> None:
    """A frame that a crash cut off was never acknowledged, so it is for information only."""
    folder = write_spool(tmp_path, VALID[:18])
    last = layout.segment_file(folder, 17)
    last.write_bytes(last.read_bytes() + frame(VALID[18])[:-10])

    report = verify(tmp_path)

    assert report.ok
    assert [found.code for found in report.findings] == ["source.torn"]


@pytest.mark.parametrize("part", ["message", "attribute"])
def test_byte_changed_on_disk_is_named_at_its_record(tmp_path: Path, part: str) -> None:
    """A frame with a wrong CRC is still checked by its hash, and reading continues after it."""
    folder = write_spool(tmp_path, VALID)
    segment = layout.segment_file(folder, 1)
    needle = b"Record 5 " if part == "message" else b"hmac:2c1d:77\x32"
    position = segment.read_bytes().index(needle, offset_of(5))
    overwrite(segment, position, b"X")

    found = verify(tmp_path).findings

    assert named(found) == [("original.changed" if part == "message" else "projection.changed", 5, 5)]


def test_changed_stored_hash_is_named(tmp_path: Path) -> None:
    """A changed digest in a frame's header is reported."""
    folder = write_spool(tmp_path, VALID)
    overwrite(layout.segment_file(folder, 1), offset_of(5) + 20, b"\xff\xff\xff")

    assert named(verify(tmp_path).findings) == [("hash.mismatch", 5, 5)]


def test_changed_frame_sequence_is_named(tmp_path: Path) -> None:
    """A frame whose header names another sequence is checked at its own place."""
    folder = write_spool(tmp_path, VALID)
    overwrite(layout.segment_file(folder, 1), offset_of(5) + 8, b"\x40")

    assert ("sequence.mismatch", 5, 5) in named(verify(tmp_path).findings)


def test_changed_length_is_named_and_reading_goes_on(tmp_path: Path) -> None:
    """A damaged header loses only its own record."""
    folder = write_spool(tmp_path, VALID)
    overwrite(layout.segment_file(folder, 1), offset_of(5), b"\xff\xff\x00")

    report = verify(tmp_path)

    assert [found.code for found in report.findings] == ["source.damaged", "chain.gap"]
    assert named(report.findings)[1] == ("chain.gap", 5, 5)
    assert report.records == 19


def test_exchanged_frames_are_named(tmp_path: Path) -> None:
    """Frames are appended in order, so a frame after its successor was moved."""
    documents = copy_of(VALID)
    documents[4], documents[5] = documents[5], documents[4]
    write_spool(tmp_path, documents, segment=100)

    assert named(verify(tmp_path).findings) == [("order.swapped", 5, 6)]


def test_payload_that_is_no_record_is_named(tmp_path: Path) -> None:
    """A frame with a valid CRC and garbage content is reported at its place."""
    folder = write_spool(tmp_path, VALID, segment=100)
    segment = layout.segment_file(folder, 1)
    frames, _ = files.read_frames(segment)
    data = [files.frame(f.sequence, f.digest, b"\xff\xff" if f.sequence == 5 else f.payload) for f in frames]
    segment.write_bytes(b"".join(data))

    assert named(verify(tmp_path).findings) == [("original.changed", 5, 5)]


def test_records_set_aside_are_read(tmp_path: Path) -> None:
    """A quarantined record still proves its place, and the report mentions it."""
    folder = write_spool(tmp_path, VALID)
    segment = layout.segment_file(folder, 1)
    quarantine = layout.quarantine_folder(folder)
    quarantine.mkdir()
    for stored in VALID[:8]:
        (quarantine / f"{stored.sequence:020d}.otlp").write_bytes(payload(stored))
    segment.unlink()

    report = verify(tmp_path)

    assert report.records == 20
    assert [found.code for found in report.findings] == ["source.quarantined"]
