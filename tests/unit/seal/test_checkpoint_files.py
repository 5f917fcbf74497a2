from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.sealed import KEYS, SIGNER, STRANGER, STREAM_ID

from mlaudit.errors import CheckpointError
from mlaudit.seal.checkpoint import Checkpoint, SignedNote, sign_note
from mlaudit.seal.checkpoint_files import CheckpointFolder, Exported, append_note, read_notes


def note(sequence: int, letter: str = "a", stream_id: str = STREAM_ID) -> str:
    """A signed checkpoint."""
    return sign_note(Checkpoint(stream_id, sequence, letter * 64, "2026-11-25T03:30:00Z"), SIGNER)


def test_only_a_later_checkpoint_replaces_one(tmp_path: Path) -> None:
    """The file of a stream is replaced only by a later checkpoint."""
    folder = CheckpointFolder(tmp_path / "out")

    assert folder.put(note(5)) is Exported.WRITTEN
    assert folder.put(note(9)) is Exported.WRITTEN
    assert folder.put(note(5)) is Exported.LATER
    assert folder.put(note(9)) is Exported.SAME
    assert folder.path(STREAM_ID).read_text() == note(9)
    assert stat.S_IMODE(folder.path(STREAM_ID).stat().st_mode) == 0o644
    assert [path.name for path in folder.folder.iterdir()] == [f"{STREAM_ID}.checkpoint"]


def test_two_hashes_for_one_record_are_shouted(tmp_path: Path) -> None:
    """Two valid signatures of different hashes of one record mean two histories; the first stays."""
    folder = CheckpointFolder(tmp_path)
    folder.put(note(5, "a"))

    with pytest.raises(CheckpointError, match="TWO HISTORIES"):
        folder.put(note(5, "b"))
    assert folder.path(STREAM_ID).read_text() == note(5, "a")


def test_altered_export_is_kept_and_named(tmp_path: Path) -> None:
    """A file that is not a checkpoint, or that another stream or an unknown key made, is not overwritten."""
    folder = CheckpointFolder(tmp_path)
    path = folder.path(STREAM_ID)
    other = "019ab8a0-0000-7000-8000-00000000000f"
    foreign = sign_note(Checkpoint(STREAM_ID, 10**18, "a" * 64, "2026-11-25T03:30:00Z"), STRANGER)
    for content, reason in (
        ("garbage", "altered or damaged"),
        (note(3, stream_id=other), "one of another stream"),
    ):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=reason):
            folder.put(note(5))
        assert path.read_text() == content
    path.write_text(foreign)
    with pytest.raises(CheckpointError, match="another signature"):
        folder.put(note(5), KEYS)


@pytest.mark.parametrize("stream_id", ["../evil", "/etc/passwd", "a b", "x" * 65])
def test_stream_id_names_no_other_file(tmp_path: Path, stream_id: str) -> None:
    """An id that could lead to another path is refused, whatever key signed it."""
    with pytest.raises(CheckpointError, match="stream id"):
        CheckpointFolder(tmp_path / "out").put(note(5, stream_id=stream_id))
    assert list(tmp_path.iterdir()) == []


def test_time_stamp_of_the_checkpoint_before_is_gone(tmp_path: Path) -> None:
    """A time-stamp is removed with the checkpoint that it belongs to."""
    folder = CheckpointFolder(tmp_path)
    folder.put(note(5))
    stamp = tmp_path / f"{STREAM_ID}.checkpoint.tsr"
    stamp.write_bytes(b"stamp")

    assert folder.put(note(5)) is Exported.SAME
    assert stamp.exists()
    folder.put(note(6))
    assert not stamp.exists()


def test_appended_notes_are_read_back(tmp_path: Path) -> None:
    """A file that only grows holds every note, and so does a folder of files."""
    path = tmp_path / "all.checkpoint"
    for sequence in (1, 2, 3):
        append_note(path, note(sequence))

    assert [SignedNote.parse(text).checkpoint.sequence for _, text in read_notes(path)] == [1, 2, 3]
    assert [SignedNote.parse(text).signed_by(KEYS) for _, text in read_notes(tmp_path)] == [
        SIGNER.public_key
    ] * 3


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    """An empty folder, an absent file and a file that cannot be appended to give errors."""
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError):
            read_notes(path)
    with pytest.raises(CheckpointError, match="append"):
        append_note(tmp_path, note(1))
