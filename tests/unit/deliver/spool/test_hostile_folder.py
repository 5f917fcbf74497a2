"""Unexpected files in a stream folder."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from mlaudit.deliver.spool import files, layout
from mlaudit.deliver.spool.spool import StreamSpool
from mlaudit.errors import UnreadableSegmentError
from mlaudit.safety.regular import open_regular


def make_folder(spool: Path) -> Path:
    """The folder of a stream whose process has ended."""
    folder = layout.stream_folder(spool, "s-1")
    folder.mkdir()
    layout.lock_file(folder).touch()
    return folder


def test_a_stream_that_never_wrote_is_adopted(tmp_path: Path) -> None:
    """A process that died before its first record leaves a folder without segments; it is adopted and removed."""
    folder = make_folder(tmp_path)
    spool = StreamSpool.adopt(folder, 1 << 20)
    assert spool is not None
    assert spool.read(1 << 20)[0] == []
    spool.close(remove=True)
    assert not folder.exists()


def test_a_pipe_in_a_segments_place_holds_nobody_up(tmp_path: Path) -> None:
    """A pipe named like a segment is reported and skipped; the records before and after it are read."""
    folder = make_folder(tmp_path)
    for sequence in (1, 3):
        content = files.frame(sequence, sha256(b"x").digest(), b"payload %d" % sequence)
        layout.segment_file(folder, sequence).write_bytes(content)
    os.mkfifo(layout.segment_file(folder, 2))
    spool = StreamSpool.adopt(folder, 1 << 20)
    assert spool is not None
    read = []
    while (found := spool.read(1 << 20))[0]:
        read += [frame.payload for frame in found[0]]
        spool.acknowledge(found[1])
    spool.close(remove=False)
    assert read == [b"payload 1", b"payload 3"]
    assert len(spool.damage) == 1


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    """A pipe, a device and a folder are refused at once, as not regular files."""
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(path)
    with pytest.raises(UnreadableSegmentError, match="not a regular file"):
        files.read_range(path, 0, 10)


def test_a_link_to_a_file_is_opened(tmp_path: Path) -> None:
    """A link to a regular file is read like the file."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
