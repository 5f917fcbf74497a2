"""Signed checkpoints outside the store: a folder with the newest of each stream, or a file that only grows.

The administrators of the record store must not have write access to these files. Then a later verification shows
every truncation and every change of the records that were signed before the export.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from mlaudit.deliver.spool.files import replace_file
from mlaudit.errors import ChainError, CheckpointError
from mlaudit.seal.checkpoint import SignedNote, VerifyingKey, split_notes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIX: Final = ".checkpoint"
TIMESTAMP_SUFFIX: Final = ".tsr"
_STREAM_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_MODE: Final = 0o644  # not secret, and every verifier should be able to read it


class Exported(Enum):
    """The result of exporting a checkpoint."""

    WRITTEN = "written"
    SAME = "already there"
    LATER = "a later one is there"


class CheckpointFolder:
    """One file for each stream, replaced whole, and only by a later checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, stream_id: str) -> Path:
        """The file of a stream.

        Raises:
            CheckpointError: it is not a stream id.
        """
        if not _STREAM_ID.fullmatch(stream_id):
            raise CheckpointError(f"expected a stream id, found {stream_id[:80]!r}; nothing was written")
        return self.folder / f"{stream_id}{SUFFIX}"

    def put(self, note: str, keys: Mapping[str, VerifyingKey] | None = None) -> Exported:
        """Exports a checkpoint whose signature is already verified.

        Returns only after the file and its name are synced.

        Args:
            note: the signed note.
            keys: the trusted keys, with which the existing file is verified as well.

        Raises:
            CheckpointError: the existing file is not a checkpoint of this stream, or names another hash for the same
                record; or the folder cannot be written. The existing file is left as it is.
        """
        new = SignedNote.parse(note).checkpoint
        path = self.path(new.stream_id)
        there = self._there(path, keys)
        if there is not None:
            old = there.checkpoint
            if old.stream_id != new.stream_id:
                raise CheckpointError(
                    f"{path}: expected a checkpoint of stream {new.stream_id}, found one of another stream"
                )
            if old.sequence == new.sequence and old.hash != new.hash:
                raise CheckpointError(
                    f"{path}: TWO HISTORIES: record {old.sequence} was exported with hash {old.hash}, and now a "
                    f"good signature says {new.hash}; keep both and find out who used the key"
                )
            if old.sequence >= new.sequence:
                return Exported.SAME if old.sequence == new.sequence else Exported.LATER
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, note.encode())
            path.chmod(_MODE)
            # This time-stamp belongs to the previous checkpoint.
            path.with_name(path.name + TIMESTAMP_SUFFIX).unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"{path}: expected to write a checkpoint, found {error.strerror}") from None
        return Exported.WRITTEN

    def _there(self, path: Path, keys: Mapping[str, VerifyingKey] | None) -> SignedNote | None:
        try:
            note = SignedNote.parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ChainError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"{path}: expected an exported checkpoint, found {error}; "
                "it was altered or damaged: move it elsewhere, then export again"
            ) from None
        if keys is not None and note.signed_by(keys) is None:
            raise CheckpointError(
                f"{path}: expected a checkpoint signed by a trusted key, found another signature; "
                "it was altered, or its key is not among the trusted ones"
            )
        return note


def append_note(path: Path, note: str) -> None:
    """Appends a checkpoint to a file, which may be append-only (``chattr +a``) or a pipe.

    Returns only after fsync, where the file has one.

    Raises:
        CheckpointError: the file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            data = note.encode() + b"\n"
            if os.write(descriptor, data) != len(data):
                raise CheckpointError(
                    f"{path}: expected to write the whole checkpoint, found that only a part could be written"
                )
            if path.is_file():
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckpointError(f"{path}: expected to append a checkpoint, found {error.strerror}") from None


def read_notes(path: Path) -> list[tuple[Path, str]]:
    """The notes of a file, or of every checkpoint file of a folder, each with its file.

    Raises:
        CheckpointError: it cannot be read, or contains no note.
    """
    try:
        files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        notes = [(file, note) for file in files for note in split_notes(file.read_text(encoding="utf-8"))]
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: expected a signed checkpoint, found {error}") from None
    if not notes:
        raise CheckpointError(f"{path}: expected signed checkpoints (*{SUFFIX}), found none")
    return notes
