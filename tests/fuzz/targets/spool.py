"""Spool folders of any content: nothing but SpoolError, no readable frame lost, no endless loop."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from tests.fuzz.choices import Choices
from tests.fuzz.ground import fresh_folder

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.errors import SpoolError

_STREAM = "019ab8a0-0000-7000-8000-000000000001"


def make_frame(sequence: int, choices: Choices) -> bytes:
    """A whole frame with a unique payload."""
    payload = b"<%d>" % sequence + bytes([choices.below(256)]) * choices.below(200)
    return files.frame(sequence, sha256(payload).digest(), payload)


def damage(choices: Choices) -> bytes:
    """Bytes that are not a whole frame: noise, a header without its payload, a frame with a flipped bit."""
    kind = choices.below(4)
    if kind == 0:
        return choices.bytes(choices.below(80))
    whole = bytearray(make_frame(choices.below(1000), choices))
    if kind == 1:
        return bytes(whole[: choices.below(len(whole))])
    if kind == 2:
        whole[choices.below(len(whole))] ^= 1 << choices.below(8)
        return bytes(whole)
    return bytes(choices.below(64))


def run_frames(data: bytes) -> None:
    """Frames before the first damage are read exactly, and reading ends whatever follows."""
    choices = Choices(data)
    whole = [make_frame(number, choices) for number in range(1, 1 + choices.below(6))]
    tail = damage(choices) + choices.rest()
    content = b"".join(whole) + tail
    offset = choices.below(1000)
    found = list(files.parse_frames(content, offset))
    ends = [frame.end for frame in found]
    assert ends == sorted(set(ends))
    assert all(end <= offset + len(content) for end in ends)
    assert [files.frame(f.sequence, f.digest, f.payload) for f in found[: len(whole)]] == whole
    files.cut_short(tail)
    broken = files.damaged_frame(tail, offset)
    assert broken is None or offset < broken.end <= offset + len(tail)
    with fresh_folder() as folder:
        path = layout.segment_file(folder, 1)
        path.write_bytes(content)
        read, behind = files.read_frames(path)
        assert len(read) == len(found)
        assert behind == len(content) - (ends[-1] - offset if ends else 0)
        layout.ack_file(folder).write_bytes(content[: choices.below(40)] or b"")
        files.read_ack(folder)


def run_adoption(data: bytes) -> None:
    """An abandoned folder is drained: every whole frame is read, or its bytes are kept for inspection."""
    choices = Choices(data)
    with fresh_folder() as root:
        folder = layout.stream_folder(root, _STREAM)
        payloads = fill_stream(folder, choices)
        try:
            spool = StreamSpool.adopt(folder, 1 << 20)
        except (SpoolError, OSError):  # the folder is unusable and stays unchanged
            return
        if spool is None:
            return
        read: list[bytes] = []
        done = False
        try:
            done = _drain(spool, read)
        except SpoolError:
            done = False
        finally:
            spool.close(remove=done)
        kept = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
        for payload in payloads:
            assert payload in read or payload in kept, f"{payload[:20]!r} is gone"


def _drain(spool: StreamSpool, read: list[bytes]) -> bool:
    for _ in range(200):
        frames, ack = spool.read(1 << 10)
        if not frames:
            return not spool.unacknowledged
        assert ack.sequence == frames[-1].sequence
        read += [frame.payload for frame in frames]
        spool.acknowledge(ack)
    raise AssertionError("the spool gives frames without end")


def fill_stream(folder: Path, choices: Choices) -> list[bytes]:
    """Writes a stream folder: good frames, damage, odd files; returns the payloads of the good frames."""
    folder.mkdir(parents=True)
    layout.lock_file(folder).write_bytes(choices.bytes(choices.below(4)))
    payloads: list[bytes] = []
    sequence = 1
    for _ in range(choices.below(4)):
        content = b""
        first = sequence
        for _ in range(choices.below(5)):
            whole = make_frame(sequence, choices)
            payloads.append(whole[files.HEADER_BYTES :])
            content += whole
            sequence += 1
            if choices.below(6) == 5:
                content += damage(choices)
        if choices.below(4) == 3:
            content += damage(choices)
        layout.segment_file(folder, first).write_bytes(content)
        sequence = max(sequence, first + 1)
    if choices.seldom():
        layout.ack_file(folder).write_bytes(choices.bytes(40))
    _litter(folder, choices)
    return payloads


def _litter(folder: Path, choices: Choices) -> None:
    """What an administrator, a crash or an attacker may have left next to the segments."""
    kind = choices.below(10)
    place = layout.segment_file(folder, 500 + choices.below(10))
    quarantine = layout.quarantine_folder(folder)
    if kind == 1:
        place.mkdir()
    elif kind == 2:
        place.symlink_to("/nonexistent")
    elif kind == 3:
        os.mkfifo(place)
    elif kind == 4:
        quarantine.write_bytes(b"a file where a folder should be")
    elif kind == 5:
        quarantine.mkdir()
        (quarantine / "00000000000000000001.otlp").write_bytes(choices.bytes(50))
        (quarantine / "x.otlp").write_bytes(b"")
    elif kind == 6:
        layout.ack_file(folder).unlink(missing_ok=True)
        layout.ack_file(folder).mkdir()
    elif kind == 7:
        place.write_bytes(b"")
